# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Real portraits as a camera would deliver them."""

import numpy as np

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.samples import load_portraits
from face_pose_ros.virtual_camera import photo_camera


def portrait_view(name: str = 'grace_hopper') -> tuple[np.ndarray, Camera]:
    """A portrait and the camera assumed for it."""
    photo = load_portraits()[name]
    return photo, photo_camera(photo.shape[1], photo.shape[0])


def without_face(rgb: np.ndarray) -> np.ndarray:
    return np.full_like(rgb, 96)
