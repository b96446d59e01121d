# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Assertions that name the unit of what they allow."""

import numpy as np


def rotation_error_deg(T_a, T_b):
    """(...) [deg] between poses (..., 4, 4), arrays or tensors; exact also for small angles."""
    R = np.swapaxes(np.asarray(T_a)[..., :3, :3], -1, -2) @ np.asarray(T_b)[..., :3, :3]
    skew = np.stack(
        [R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1
    )
    sine, cosine = 0.5 * np.linalg.norm(skew, axis=-1), 0.5 * (np.trace(R, axis1=-2, axis2=-1) - 1)
    return np.rad2deg(np.arctan2(sine, cosine))


def position_error_mm(T_a, T_b):
    """(...) [mm] between the origins of poses (..., 4, 4)."""
    return 1000 * np.linalg.norm(
        np.asarray(T_a)[..., :3, 3] - np.asarray(T_b)[..., :3, 3], axis=-1
    )


def assert_poses_close(T_a, T_b, max_deg: float, max_mm: float):
    """Every pose of T_a within max_deg and max_mm of its partner in T_b."""
    assert T_a.shape == T_b.shape
    worst_deg = float(np.max(rotation_error_deg(T_a, T_b)))
    worst_mm = float(np.max(position_error_mm(T_a, T_b)))
    assert worst_deg <= max_deg, f'{worst_deg:g} deg off, {max_deg:g} allowed'
    assert worst_mm <= max_mm, f'{worst_mm:g} mm off, {max_mm:g} allowed'
