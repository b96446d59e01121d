"""Rotations and poses in numpy: a handful of 3x3 matrices, for which torch is too slow.

A pose T (4, 4) is perturbed on the left in the camera frame, R <- exp(omega) R and t <- t + dt.
Both together are delta = (dt [m], omega [rad]), (6,), the order of a ROS covariance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

# tensordot(omega, _HAT, 1) is the matrix of the cross product with omega.
_HAT = np.array(
    [
        [[0.0, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, 0, 1], [0, 0, 0], [-1, 0, 0]],
        [[0, -1, 0], [1, 0, 0], [0, 0, 0]],
    ]
)
_SMALL_ANGLE_SQ = 1e-8  # [rad^2] below it the series are exact to double precision


def exp(omega: Array) -> Array:
    """Rotation matrix (3, 3) of a rotation vector (3,) [rad]."""
    return np.asarray(Rotation.from_rotvec(omega).as_matrix())


def log(R: Array) -> Array:
    """Rotation vectors (..., 3) [rad] of rotation matrices (..., 3, 3), angle in [0, pi]."""
    return Rotation.from_matrix(R.reshape(-1, 3, 3)).as_rotvec().reshape(R.shape[:-1])


def left_jacobian(omega: Array) -> Array:
    """J_l (..., 3, 3) with exp(omega + d) = exp(J_l d) exp(omega) to first order in d.

    Sola, Deray, Atchuthan 2018, "A micro Lie theory", eq. 145.

    Args:
        omega: (..., 3) [rad].
    """
    angle_sq = (omega * omega).sum(-1)[..., None, None]
    small = angle_sq < _SMALL_ANGLE_SQ
    safe_sq = np.where(small, 1.0, angle_sq)
    angle = np.sqrt(safe_sq)
    a = np.where(small, 1 / 2, (1 - np.cos(angle)) / safe_sq)
    b = np.where(small, 1 / 6, (angle - np.sin(angle)) / (safe_sq * angle))
    K = np.tensordot(omega, _HAT, 1)
    return np.asarray(np.eye(3) + a * K + b * K @ K)


def moved(T: Array, delta: Array) -> Array:
    """The pose (4, 4) perturbed by delta (6,)."""
    T = T.copy()
    T[:3, 3] += delta[:3]
    T[:3, :3] = exp(delta[3:]) @ T[:3, :3]
    return T


def difference(T_from: Array, T_to: Array) -> Array:
    """The delta (..., 6) with T_to = moved(T_from, delta); poses (..., 4, 4) of one shape."""
    dt = T_to[..., :3, 3] - T_from[..., :3, 3]
    omega = log(T_to[..., :3, :3] @ np.swapaxes(T_from[..., :3, :3], -1, -2))
    return np.concatenate([dt, omega], axis=-1)
