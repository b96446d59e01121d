"""Rotations and poses in numpy: a handful of 3x3 matrices, for which torch is too slow.

A pose T (4, 4) is perturbed on the left in the camera frame, R <- exp(omega) R and t <- t + dt.
Both together are delta = (dt [m], omega [rad]), (6,), the order of a ROS covariance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.jit import compiled as _compiled

Array = NDArray[np.float64]

_SMALL_ANGLE_SQ = 1e-8  # [rad^2] below it the series are exact to double precision


def exp(omega: Array) -> Array:
    """Rotation matrix (3, 3) of a rotation vector (3,) [rad]."""
    return _exp(omega)


def log(R: Array) -> Array:
    """Rotation vectors (..., 3) [rad] of rotation matrices (..., 3, 3), angle in [0, pi]."""
    return _logs(np.ascontiguousarray(R).reshape(-1, 3, 3)).reshape(R.shape[:-1])


def left_jacobian(omega: Array) -> Array:
    """J_l (..., 3, 3) with exp(omega + d) = exp(J_l d) exp(omega) to first order in d.

    Sola, Deray, Atchuthan 2018, "A micro Lie theory", eq. 145.

    Args:
        omega: (..., 3) [rad].
    """
    J = _left_jacobians(omega.reshape(-1, 3))
    return J.reshape(*omega.shape, 3)


def moved(T: Array, delta: Array) -> Array:
    """The pose (4, 4) perturbed by delta (6,)."""
    return _moved(T, delta)


def difference(T_from: Array, T_to: Array) -> Array:
    """The delta (..., 6) with T_to = moved(T_from, delta); poses (..., 4, 4) of one shape."""
    dt = T_to[..., :3, 3] - T_from[..., :3, 3]
    omega = log(T_to[..., :3, :3] @ np.swapaxes(T_from[..., :3, :3], -1, -2))
    return np.concatenate([dt, omega], axis=-1)


@_compiled
def _series(omega, first, second, third):
    """The sum of I, hat(omega) and hat(omega)^2, times these."""
    x, y, z = omega
    A = np.empty((3, 3))
    A[0, 0] = first - third * (y * y + z * z)
    A[1, 1] = first - third * (x * x + z * z)
    A[2, 2] = first - third * (x * x + y * y)
    A[0, 1], A[1, 0] = third * x * y - second * z, third * x * y + second * z
    A[0, 2], A[2, 0] = third * x * z + second * y, third * x * z - second * y
    A[1, 2], A[2, 1] = third * y * z - second * x, third * y * z + second * x
    return A


@_compiled
def _exp(omega):
    angle_sq = omega[0] ** 2 + omega[1] ** 2 + omega[2] ** 2
    if angle_sq < _SMALL_ANGLE_SQ:
        return _series(omega, 1.0, 1 - angle_sq / 6, 0.5 - angle_sq / 24)
    angle = math.sqrt(angle_sq)
    return _series(omega, 1.0, math.sin(angle) / angle, (1 - math.cos(angle)) / angle_sq)


@_compiled
def _left_jacobians(omega):
    J = np.empty((len(omega), 3, 3))
    for i in range(len(omega)):
        angle_sq = omega[i, 0] ** 2 + omega[i, 1] ** 2 + omega[i, 2] ** 2
        if angle_sq < _SMALL_ANGLE_SQ:
            J[i] = _series(omega[i], 1.0, 1 / 2, 1 / 6)
        else:
            angle = math.sqrt(angle_sq)
            a = (1 - math.cos(angle)) / angle_sq
            b = (angle - math.sin(angle)) / (angle_sq * angle)
            J[i] = _series(omega[i], 1.0, a, b)
    return J


@_compiled
def _moved(T, delta):
    R = _exp(delta[3:])
    T_moved = T.copy()
    for i in range(3):
        T_moved[i, 3] += delta[i]
        for j in range(3):
            T_moved[i, j] = R[i, 0] * T[0, j] + R[i, 1] * T[1, j] + R[i, 2] * T[2, j]
    return T_moved


@_compiled
def _logs(R):
    """Through the quaternion, whose largest element divides (Shepperd's method)."""
    omega = np.empty((len(R), 3))
    quat_xyzw = np.empty(4)
    for n in range(len(R)):
        trace = R[n, 0, 0] + R[n, 1, 1] + R[n, 2, 2]
        i = 0
        for j in range(1, 3):
            if R[n, j, j] > R[n, i, i]:
                i = j
        j, k = (i + 1) % 3, (i + 2) % 3
        if trace > R[n, i, i]:
            quat_xyzw[0] = R[n, 2, 1] - R[n, 1, 2]
            quat_xyzw[1] = R[n, 0, 2] - R[n, 2, 0]
            quat_xyzw[2] = R[n, 1, 0] - R[n, 0, 1]
            quat_xyzw[3] = 1 + trace
        else:
            quat_xyzw[i] = 1 + R[n, i, i] - R[n, j, j] - R[n, k, k]
            quat_xyzw[j] = R[n, i, j] + R[n, j, i]
            quat_xyzw[k] = R[n, i, k] + R[n, k, i]
            quat_xyzw[3] = R[n, k, j] - R[n, j, k]
        if quat_xyzw[3] < 0:
            quat_xyzw[:] = -quat_xyzw
        x, y, z, w = quat_xyzw
        sine, size = math.sqrt(x * x + y * y + z * z), math.sqrt(x * x + y * y + z * z + w * w)
        # The angle over its half's sine; sine^2 is that of the half angle.
        small = sine * sine < 0.25 * _SMALL_ANGLE_SQ * size * size
        factor = 2 / size if small else 2 * math.atan2(sine, w) / sine
        omega[n, 0], omega[n, 1], omega[n, 2] = factor * x, factor * y, factor * z
    return omega
