"""The picture with the measured heads drawn into it: a pure function, no node."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.results import FacePose
from face_pose_ros.ros.draw import (
    draw_head,
    draw_label,
    draw_text,
    face_colour_rgb,
    face_label,
)

_LABEL_BELOW = 0.03  # of the picture's height, from chin to base line


def draw_overlay(
    rgb: NDArray[np.uint8],
    faces: Sequence[FacePose],
    camera: Camera,
    model: FaceModel,
    caption: str,
) -> NDArray[np.uint8]:
    """A copy of the picture with every face's own mesh, axes, id and distance.

    Args:
        rgb: (H, W, 3) uint8, of any strides.
        faces: What was measured in it.
        camera: The picture's camera, on the CPU.
        model: The face model whose coefficients `FacePose.shape` are.
        caption: ASCII text for the top left, one or more lines: rates, latency.

    Returns:
        (H, W, 3) uint8, contiguous.
    """
    bgr = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), dtype=np.uint8)
    # The nearest head last: it hides the others.
    for face in sorted(faces, key=lambda f: -float(np.linalg.norm(f.T_cam_head[:3, 3]))):
        colour = face_colour_rgb(face.number)
        draw_head(bgr, face.T_cam_head, camera, model, face.shape, colour)
        left, _, _, bottom = face.box_xyxy  # the axes cover what is above
        draw_label(bgr, face_label(face), (left, bottom + _LABEL_BELOW * len(bgr)), colour)
    for line, text in enumerate(caption.splitlines()):
        draw_text(bgr, text, line)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), dtype=np.uint8)
