# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Covariance of a pose with the shape marginalised, from the optimiser's last system; compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.jit import inner
from face_pose_ros.geometry.linalg import cholesky, cholesky_solve, multiply

# The observed Hessian of a redescending kernel may vanish on keypoints that are all far off.
MIN_RELATIVE_BETA = 0.1


class PoseCovariance(NamedTuple):
    """Fields as in `HeadPoses`, of N faces."""

    covariance: NDArray[np.float64]  # (N, 6, 6)
    covariance_given_shape: NDArray[np.float64]  # (N, 6, 6)
    pose_of_shape: NDArray[np.float64]  # (N, 6, C)
    shape_covariance: NDArray[np.float64]  # (N, C, C)


class Size(NamedTuple):
    """What is known of the size of one face, which no single camera can see."""

    mean: float  # relative, 1 + sigma * c_0
    sigma: float  # relative standard deviation over adults
    variance: float  # of c_0


@inner
def posterior_covariance(H, information, alpha, beta, T, size, posterior, face):
    """Covariance of a robust maximum a posteriori estimate.

    The gradient of the keypoints' cost has the covariance alpha H, its expected Hessian is
    beta H (see `robust.Efficiency`); alpha grows with residuals that are larger than their
    sigma promised, and never falls below what normal noise gives. With S the Schur complement of
    the shape in H and P its prior, the shape has the covariance of an M-estimator with a prior,

        (beta S + P)^-1 (alpha S + P) (beta S + P)^-1,

    and the pose follows the shape by G = -H_pp^-1 H_pc. This holds for redundant keypoints too:
    their information is scaled down in H, by as much as their errors move together.

    A head of size s has its translation s t; the picture tells nothing of s, so its distribution
    stays the prior's and moves the head along its ray.

    Args:
        H: (6 + M, 6 + M) of the keypoints at the minimum.
        information: (M, M) P.
        alpha: At least that of the kernel under normal noise.
        beta: In (0, 1].
        T: (3, 4) pose of the head of mean size.
        size: See `Size`.
        posterior: `PoseCovariance`, written, with the size as the first of the C = 1 + M.
        face: Its index there.

    Returns:
        False where the keypoints do not fix the pose.
    """
    modes = len(information)
    of_pose, G = np.zeros((6, 6)), np.zeros((6, modes))
    of_modes = np.empty((modes, modes))
    if not _marginalised(H, information, alpha, beta, of_pose, G, of_modes):
        return False
    of_shape, G_size = posterior.shape_covariance[face], posterior.pose_of_shape[face]
    for m in range(modes):
        of_shape[0, 1 + m] = of_shape[1 + m, 0] = 0.0
        for n in range(modes):
            of_shape[1 + m, 1 + n] = of_modes[m, n]
    of_shape[0, 0] = size.variance
    for a in range(6):
        scale = size.mean if a < 3 else 1.0
        G_size[a, 0] = size.sigma * T[a, 3] if a < 3 else 0.0
        for m in range(modes):
            G_size[a, 1 + m] = scale * G[a, m]
    return _write(of_pose, alpha / (beta * beta), size.mean, posterior, face)


@inner
def posterior_with_size(H, information, alpha, beta, T, size, posterior, face):
    """The same where the size s was an unknown too, the last of the 7 + M.

    H is that of the head of mean size at t; of the head at s t, with the size as the first of the
    C = 1 + M coefficients, it is L^T H L with dt = (d(s t) - t ds) / s and ds = size.sigma dc_0.

    Args:
        H: (7 + M, 7 + M) of all that was measured.
        information: (C, C), the size first.
        alpha: See `posterior_covariance`.
        beta: Likewise.
        T: Likewise.
        size: The size found; its variance does not count.
        posterior: See `posterior_covariance`.
        face: Likewise.
    """
    count, last = len(information), len(H) - 1
    L = np.zeros((last + 1, last + 1))
    for a in range(6):
        L[a, a] = 1 / size.mean if a < 3 else 1.0
        if a < 3:
            L[a, 6] = -size.sigma / size.mean * T[a, 3]
    L[last, 6] = 1.0
    for m in range(count - 1):
        L[6 + m, 7 + m] = 1.0
    H_moved = multiply(L.T.copy(), multiply(H, L))
    of_pose, of_shape = np.zeros((6, 6)), posterior.shape_covariance[face]
    G = posterior.pose_of_shape[face]
    for a in range(6):
        for m in range(count):
            G[a, m] = 0.0
    return _marginalised(H_moved, information, alpha, beta, of_pose, G, of_shape) and _write(
        of_pose, alpha / (beta * beta), 1.0, posterior, face
    )


@inner
def _marginalised(H, information, alpha, beta, of_pose, G, of_shape):
    """H_pp^-1, G and the covariance of the shape, into zeros; False where there is none."""
    count = len(information)
    H_pp, L = np.empty((6, 6)), np.zeros((6, 6))
    for a in range(6):
        of_pose[a, a] = 1.0
        for b in range(6):
            H_pp[a, b] = H[a, b]
    if not cholesky(H_pp, L):
        return False
    cholesky_solve(L, of_pose)
    for a in range(6):
        for b in range(6):
            for m in range(count):
                G[a, m] -= of_pose[a, b] * H[b, 6 + m]
    weak, middle, inverse = (
        np.empty((count, count)),
        np.empty((count, count)),
        np.zeros((count, count)),
    )
    for m in range(count):
        inverse[m, m] = 1.0
        for n in range(count):
            S = H[6 + m, 6 + n]
            for a in range(6):
                S += H[6 + m, a] * G[a, n]
            weak[m, n] = beta * S + information[m, n]
            middle[m, n] = alpha * S + information[m, n]
    L_shape = np.zeros((count, count))
    if not cholesky(weak, L_shape):
        return False
    cholesky_solve(L_shape, inverse)
    found = multiply(multiply(inverse, middle), inverse)
    for m in range(count):
        for n in range(count):
            of_shape[m, n] = found[m, n]
    return True


@inner
def _write(of_pose, factor, size, posterior, face):
    """The covariances of the pose; False where they are not finite."""
    of_shape, G = posterior.shape_covariance[face], posterior.pose_of_shape[face]
    GC = multiply(G, of_shape)
    of_pose_given_shape, of_all = posterior.covariance_given_shape, posterior.covariance
    total = 0.0
    for a in range(6):
        for b in range(6):
            scale = (size if a < 3 else 1.0) * (size if b < 3 else 1.0)
            given_shape = factor * scale * of_pose[a, b]
            value = given_shape
            for m in range(len(of_shape)):
                value += GC[a, m] * G[b, m]
            of_pose_given_shape[face, a, b] = given_shape
            of_all[face, a, b] = value
            total += value
    return abs(total) < np.inf
