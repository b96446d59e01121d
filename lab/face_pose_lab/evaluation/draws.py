# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random head poses, and keypoints of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.results import Keypoints

Array = NDArray[np.float64]

# R_cam_head of a frontal head.
R_CAM_FRONTAL = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])


def random_poses(
    count: int,
    camera: Camera,
    rng: np.random.Generator,
    distance_m: tuple[float, float] = (0.3, 8.0),
    yaw_deg: float = 90.0,
) -> Array:
    """(count, 4, 4) T_cam_head: sellion somewhere in the middle of the image, any view."""
    size = np.array([camera.width, camera.height])
    uv = size * (0.5 + 0.25 * rng.uniform(-1, 1, (count, 2)))
    low, high = np.log(distance_m)
    distance = np.exp(rng.uniform(low, high, (count, 1)))
    yaw, pitch, roll = np.deg2rad(rng.uniform(-1, 1, (count, 3)) * [yaw_deg, 60, 60]).T
    zero = np.zeros_like(yaw)
    R = (
        rotations.exp(np.stack([zero, zero, roll], -1))
        @ rotations.exp(np.stack([zero, yaw, zero], -1))
        @ rotations.exp(np.stack([pitch, zero, zero], -1))
        @ R_CAM_FRONTAL
    )
    return rotations.from_rt(R, camera.unproject(uv).rays * distance)


def observe(
    xyz_head: Array,
    T_cam_head: Array,
    camera: Camera,
    noise_px: float = 0.0,
    sigma_px: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Keypoints:
    """Keypoints of heads at known poses, with Gaussian noise.

    Args:
        xyz_head: (K, 3) or (N, K, 3) m.
        T_cam_head: (N, 4, 4).
        camera: Of the image.
        noise_px: Standard deviation of the noise.
        sigma_px: Standard deviation that the keypoints claim.
        rng: Of the noise; None: there is none.
    """
    uv = camera.project(rotations.apply(T_cam_head, xyz_head)).uv
    if rng is not None:
        uv = uv + noise_px * rng.standard_normal(uv.shape)
    cov_uv = sigma_px**2 * np.tile(np.eye(2), (*uv.shape[:2], 1, 1))
    return Keypoints(uv, cov_uv, np.ones(len(uv)))
