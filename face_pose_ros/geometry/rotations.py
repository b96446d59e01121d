# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations and rigid transforms: (3, 3) matrices R, and (4, 4) matrices T.

``T_a_b`` is the pose of b in a: ``p_a = T_a_b @ p_b``. A pose is perturbed on the left in the
camera frame, R <- exp(omega) R and t <- t + dt; both together are delta = (dt [m], omega [rad]),
(6,), the order of a ROS covariance. Functions take array-likes with any leading dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros import _core

Array = NDArray[np.float64]


def exp(omega: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) [rad] (Rodrigues' formula).

    >>> exp([0, 0, np.pi / 2]).round(6) + 0
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    vectors = np.asarray(omega, dtype=np.float64, order='C')
    return _core.rotation_exp(vectors.reshape(-1, 3)).reshape(*vectors.shape, 3)


def log(R: ArrayLike) -> Array:
    """Rotation vectors (..., 3) [rad] of rotation matrices (..., 3, 3), angle in [0, pi].

    >>> log([[0, -1, 0], [1, 0, 0], [0, 0, 1]]).round(6)
    array([0.      , 0.      , 1.570796])
    """
    matrices = np.asarray(R, dtype=np.float64, order='C')
    return _core.rotation_log(matrices.reshape(-1, 3, 3)).reshape(matrices.shape[:-1])


def left_jacobian(omega: ArrayLike) -> Array:
    """J_l (..., 3, 3) with exp(omega + d) = exp(J_l d) exp(omega) to first order in d.

    Sola, Deray, Atchuthan 2018, "A micro Lie theory", eq. 145.

    Args:
        omega: (..., 3) [rad].
    """
    vectors = np.asarray(omega, dtype=np.float64, order='C')
    return _core.left_jacobian(vectors.reshape(-1, 3)).reshape(*vectors.shape, 3)


def hat(omega: ArrayLike) -> Array:
    """Skew-symmetric matrices (..., 3, 3) of omega (..., 3): ``hat(a) @ b == cross(a, b)``."""
    x, y, z = np.moveaxis(np.asarray(omega, dtype=np.float64), -1, 0)
    zero = np.zeros_like(x)
    rows = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return rows.reshape(*x.shape, 3, 3)


def to_quat_xyzw(R: ArrayLike) -> Array:
    """Unit quaternions (..., 4), x, y, z, w with w >= 0, of rotation matrices (..., 3, 3).

    >>> to_quat_xyzw([[1, 0, 0], [0, -1, 0], [0, 0, -1]])
    array([1., 0., 0., 0.])
    """
    matrices = np.asarray(R, dtype=np.float64, order='C')
    return _core.quat_xyzw(matrices.reshape(-1, 3, 3)).reshape(*matrices.shape[:-2], 4)


def from_quat_xyzw(quat_xyzw: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) x, y, z, w of any non-zero length."""
    quat = np.asarray(quat_xyzw, dtype=np.float64)
    x, y, z, w = np.moveaxis(quat / np.linalg.norm(quat, axis=-1, keepdims=True), -1, 0)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack(rows, -1).reshape(*quat.shape[:-1], 3, 3)


def nearest(M: ArrayLike) -> Array:
    """Rotations nearest to M (..., 3, 3) in the Frobenius norm (orthogonal Procrustes).

    For a singular M the result is a rotation, but not unique.
    """
    U, _, Vh = np.linalg.svd(np.asarray(M, dtype=np.float64))
    U[..., 2] *= np.sign(np.linalg.det(U @ Vh))[..., None]
    return U @ Vh


def from_columns(columns: ArrayLike) -> Array:
    """Rotations (..., 3, 3) from their first two columns, orthonormalised by Gram and Schmidt.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", CVPR 2019.

    Args:
        columns: (..., 6), finite; the first column, then the second.
    """
    both = np.asarray(columns, dtype=np.float64, order='C')
    return _core.rotation_of_columns(both.reshape(-1, 6)).reshape(*both.shape[:-1], 3, 3)


def angle_between(R_a: ArrayLike, R_b: ArrayLike) -> Array:
    """Angles (...) [rad] in [0, pi] between rotations (..., 3, 3), broadcast."""
    return np.linalg.norm(log(np.swapaxes(np.asarray(R_a), -1, -2) @ np.asarray(R_b)), axis=-1)


def from_rt(R: ArrayLike, t: ArrayLike) -> Array:
    """Transforms (..., 4, 4) of rotations (..., 3, 3) and translations (..., 3)."""
    R, t = np.asarray(R, dtype=np.float64), np.asarray(t, dtype=np.float64)
    T = np.zeros((*np.broadcast_shapes(R.shape[:-2], t.shape[:-1]), 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1
    return T


def inverse(T_a_b: ArrayLike) -> Array:
    """``T_b_a`` (..., 4, 4), without a general matrix inverse."""
    T = np.asarray(T_a_b, dtype=np.float64)
    R_b_a = np.swapaxes(T[..., :3, :3], -1, -2)
    return from_rt(R_b_a, -(R_b_a @ T[..., :3, 3:])[..., 0])


def apply(T_a_b: ArrayLike, xyz_b: ArrayLike) -> Array:
    """Points (..., P, 3) of frame b in frame a, by transforms (..., 4, 4).

    >>> apply(from_rt(exp([0, 0, np.pi / 2]), [0, 0, 5]), [[1, 0, 0]]).round(6)
    array([[0., 1., 5.]])
    """
    T = np.asarray(T_a_b, dtype=np.float64)
    return np.asarray(xyz_b) @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3]


def moved(T: ArrayLike, delta: ArrayLike) -> Array:
    """The poses (..., 4, 4) perturbed by delta (..., 6); leading dimensions are broadcast."""
    deltas = np.asarray(delta, dtype=np.float64, order='C')
    poses = np.empty((*deltas.shape[:-1], 4, 4))
    poses[:] = T
    _core.move_poses(poses.reshape(-1, 4, 4), deltas.reshape(-1, 6))
    return poses


def difference(T_from: ArrayLike, T_to: ArrayLike) -> Array:
    """The delta (..., 6) with ``T_to = moved(T_from, delta)``; poses (..., 4, 4), broadcast."""
    T_a, T_b = np.asarray(T_from, dtype=np.float64), np.asarray(T_to, dtype=np.float64)
    dt = T_b[..., :3, 3] - T_a[..., :3, 3]
    omega = log(T_b[..., :3, :3] @ np.swapaxes(T_a[..., :3, :3], -1, -2))
    return np.concatenate([dt, omega], axis=-1)
