# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads at known poses in front of known cameras, in numpy."""

import numpy as np

from face_pose_ros.geometry import rotations
from face_pose_ros.results import Keypoints

# R_cam_head of a head that looks straight into the camera.
R_CAM_FRONTAL = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])


def random_poses(count, camera, rng, distance_m=(0.3, 8.0), yaw_deg=90.0):
    """(count, 4, 4) T_cam_head: sellion somewhere in the middle of the image, any view."""
    size = np.array([camera.width, camera.height])
    uv = size * (0.5 + 0.25 * rng.uniform(-1, 1, (count, 2)))
    distance = np.exp(rng.uniform(*np.log(distance_m), (count, 1)))
    yaw, pitch, roll = np.deg2rad(rng.uniform(-1, 1, (count, 3)) * [yaw_deg, 60, 60]).T
    zero = np.zeros_like(yaw)
    R = (
        rotations.exp(np.stack([zero, zero, roll], -1))
        @ rotations.exp(np.stack([zero, yaw, zero], -1))
        @ rotations.exp(np.stack([pitch, zero, zero], -1))
        @ R_CAM_FRONTAL
    )
    return rotations.from_rt(R, camera.unproject(uv).rays * distance)


def frontal(xyz, rotvec=(0.0, 0.0, 0.0)):
    """(4, 4): a head at xyz [m], turned by rotvec [rad] from looking along the optical axis."""
    return rotations.from_rt(rotations.exp(np.array(rotvec, float)) @ R_CAM_FRONTAL, xyz)


def observe(xyz_head, T_cam_head, camera, noise_px=0.0, sigma_px=1.0, rng=None):
    """Keypoints of heads at known poses, with Gaussian noise.

    Args:
        xyz_head: (K, 3) or (N, K, 3) m.
        T_cam_head: (N, 4, 4).
        camera: Of the image.
        noise_px: Standard deviation of the noise.
        sigma_px: Standard deviation that the keypoints claim.
        rng: Of the noise.
    """
    uv = camera.project(rotations.apply(T_cam_head, xyz_head)).uv
    if noise_px:
        uv = uv + noise_px * rng.standard_normal(uv.shape)
    cov_uv = sigma_px**2 * np.tile(np.eye(2), (*uv.shape[:2], 1, 1))
    return Keypoints(uv, cov_uv, np.ones(len(uv)))
