# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws heads into a copy of the image: a pure function, no node."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.results import FacePose
from face_pose_ros.ros.drawing.draw import (
    draw_gaze,
    draw_head,
    draw_label,
    draw_text,
    drawing_scale,
)
from face_pose_ros.ros.drawing.style import SIGMAS, face_colour_rgb, face_label

_LABEL_BELOW_PX = 30  # at scale 1, from chin to base line


def draw_overlay(
    rgb: NDArray[np.uint8],
    faces: Sequence[FacePose],
    camera: Camera,
    model: FaceModel,
    caption: str,
) -> NDArray[np.uint8]:
    """A copy of the image with mesh, axes, gaze, id and distance of every face.

    The distance is given with SIGMAS standard deviations, the gaze with the SIGMAS ellipse of its
    end.

    Args:
        rgb: (H, W, 3) uint8, of any strides.
        faces: The faces of the image.
        camera: The image's camera.
        model: The face model whose coefficients `FacePose.shape` are.
        caption: ASCII text for the top left, one or more lines: rates, latency.

    Returns:
        (H, W, 3) uint8, contiguous.
    """
    bgr = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), dtype=np.uint8)
    # The nearest head last: it is drawn over the others.
    by_distance = sorted(faces, key=lambda face: -face.distance)
    for face in by_distance:
        colour = face_colour_rgb(face.number)
        draw_head(bgr, face.T_cam_head, camera, model, face.shape, colour)
        draw_gaze(bgr, face.T_cam_head, face.covariance, camera, colour)
    labels: list[tuple[int, int, int, int]] = []
    for face in reversed(by_distance):
        left, _, _, bottom = face.box_xyxy  # below the face: axes are above
        at = (left, bottom + _LABEL_BELOW_PX * drawing_scale(bgr))
        text = f'{face_label(face)} ±{SIGMAS * _distance_sigma(face):.2f}'
        labels.append(draw_label(bgr, text, at, face_colour_rgb(face.number), labels))
    for line, text in enumerate(caption.splitlines()):
        draw_text(bgr, text, line)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), dtype=np.uint8)


def _distance_sigma(face: FacePose) -> float:
    """Standard deviation [m] along the line of sight."""
    ray = face.position / max(face.distance, 1e-9)
    return float(np.sqrt(max(ray @ face.covariance[:3, :3] @ ray, 0.0)))
