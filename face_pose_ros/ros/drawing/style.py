# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Colours and sizes of heads, shared by overlay, markers and 3-D view."""

from __future__ import annotations

from face_pose_ros.results import FacePose

Rgb = tuple[int, int, int]  # 0 to 255

# Okabe and Ito (2008), "Color Universal Design": distinguishable with protanopia and deuteranopia.
# Ordered by difference from skin; numbers begin with 1.
FACE_COLOURS_RGB: tuple[Rgb, ...] = (
    (213, 94, 0),  # vermilion
    (86, 180, 233),  # sky blue
    (240, 228, 66),  # yellow
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (230, 159, 0),  # orange
)
# x, y, z as in RViz; for red-green colour blindness, dark red and light green differ in lightness.
AXIS_COLOURS_RGB: tuple[Rgb, Rgb, Rgb] = ((214, 40, 40), (120, 230, 90), (60, 130, 255))
DOUBT_RGB: Rgb = (255, 255, 255)  # the covariance; often a needle close to the gaze ray
TEXT_RGB: Rgb = (255, 255, 255)
BACKING_RGB: Rgb = (20, 20, 24)  # behind text, and around lines

MESH_OPACITY = 0.45
DOUBT_OPACITY = 0.4
DISC_OPACITY = 0.25  # of the uncertainty ellipse at the end of a gaze ray
BACKING_OPACITY = 0.65

AXIS_M = 0.1
GAZE_M = 1.0  # in 3-D
GAZE_IN_IMAGE_M = 0.3  # shorter, because the ray of a frontal face passes close to the camera
SIGMAS = 2.0  # half axes of the covariance's ellipsoid [standard deviations]


def face_colour_rgb(number: int) -> Rgb:
    """The colour of the face with this `FacePose.number`."""
    return FACE_COLOURS_RGB[number % len(FACE_COLOURS_RGB)]


def face_label(face: FacePose) -> str:
    """Id and distance from the camera, as in 'f00001 1.23 m'; ASCII, as OpenCV and RViz need."""
    return f'{face.id} {face.distance:.2f} m'.lstrip()
