# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Converts poses between the real camera and a camera that is turned towards a face.

A network that gets a part of an image needs the view of a camera that is turned towards the face:
only in such a *box camera* a head with a yaw of 30 deg looks the same anywhere in the image. It
shares the real camera's centre and its z axis is the ray through a pixel, so poses convert by a
rotation, exactly and for every lens:

    T_cam_head = [R_cam_box | 0] T_box_head.

R_cam_box is the smallest rotation that turns the optical axis into the ray. For a lens that is
symmetric about its axis, the images of the box camera and of the real camera differ near the ray
by a stretch along and across the radius, but not by a rotation.

img2pose (Albiero et al., CVPR 2021, utils/pose_operations.py) shifts the principal point (K_box)
instead of turning the camera, and converts rotations by R' = K_img^-1 K_box R. For a box at
a = (u_box - cx) / f beside the axis that is a shear by a, no rotation; the rotation nearest to it
turns by atan(a / 2), where the ray turns by atan(a).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.geometry.camera import Camera

Array = NDArray[np.float64]


def box_rotation(rays: Array) -> Array:
    """R_cam_box (..., 3, 3): the smallest rotation of (0, 0, 1) into unit rays (..., 3).

    For the ray (0, 0, -1), which has no unique one, half a turn about x.
    """
    return _core.box_rotations(rays.reshape(-1, 3)).reshape(*rays.shape, 3)


def pixels_per_radian(camera: Camera, rays: Array) -> Array:
    """(...) scale of the image at unit rays (..., 3): root of a steradian's area in px^2."""
    return _core.pixels_per_radian(rays.reshape(-1, 3), camera.lens).reshape(rays.shape[:-1])
