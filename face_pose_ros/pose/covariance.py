# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Covariance of a pose with the shape marginalised, from the optimiser's last system; compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.jit import inner
from face_pose_ros.geometry.linalg import cholesky_inverse, multiply

# The observed Hessian of a redescending kernel may vanish on keypoints that are all far off.
MIN_RELATIVE_BETA = 0.1


class PoseCovariance(NamedTuple):
    """Fields as in `HeadPoses`, of N faces."""

    covariance: NDArray[np.float64]  # (N, 6, 6)
    covariance_given_shape: NDArray[np.float64]  # (N, 6, 6)
    pose_of_shape: NDArray[np.float64]  # (N, 6, C)
    shape_covariance: NDArray[np.float64]  # (N, C, C)


@inner
def posterior_covariance(H, information, alpha, beta, T, size, size_sigma, posterior, face):
    """Covariance of a robust maximum a posteriori estimate.

    The gradient of the cost of what was measured has the covariance alpha H, its expected Hessian
    is beta H (see `robust.Efficiency`); alpha grows with residuals that are larger than their
    sigma promised, and never falls below what normal noise gives. With S the Schur complement of
    the shape in H and P its prior, the shape has the covariance of an M-estimator with a prior,

        (beta S + P)^-1 (alpha S + P) (beta S + P)^-1,

    and the pose follows the shape by G = -H_pp^-1 H_pc. This holds for redundant keypoints too:
    their information is scaled down in H, by as much as their errors move together.

    H is that of a head of mean size at t. For the head of size s at s t it is L^T H L with
    dt = (d(s t) - t ds) / s and ds = size_sigma dc_0: what is not known of the size moves the head
    along its ray.

    Args:
        H: (6 + C, 6 + C) of all that was measured, at the minimum.
        information: (C, C) P.
        alpha: At least that of the kernel under normal noise.
        beta: In (0, 1].
        T: (3, 4) pose of the head of mean size.
        size: s, relative.
        size_sigma: Relative standard deviation of the size over adults.
        posterior: `PoseCovariance`, written.
        face: Its index there.

    Returns:
        False where the keypoints do not fix the pose.
    """
    unknowns, count = len(H), len(information)
    L, L_T = np.zeros((unknowns, unknowns)), np.zeros((unknowns, unknowns))
    for a in range(unknowns):
        L[a, a] = L_T[a, a] = 1 / size if a < 3 else 1.0
        if a < 3:
            L[a, 6] = L_T[6, a] = -size_sigma / size * T[a, 3]
    H_moved = multiply(L_T, multiply(H, L))
    of_pose, G = np.empty((6, 6)), posterior.pose_of_shape[face]
    of_shape = posterior.shape_covariance[face]
    H_pp = np.empty((6, 6))
    for a in range(6):
        for b in range(6):
            H_pp[a, b] = H_moved[a, b]
    if not cholesky_inverse(H_pp, of_pose):
        return False
    for a in range(6):
        for m in range(count):
            G[a, m] = 0.0
            for b in range(6):
                G[a, m] -= of_pose[a, b] * H_moved[b, 6 + m]
    weak, middle = np.empty((count, count)), np.empty((count, count))
    for m in range(count):
        for n in range(count):
            S = H_moved[6 + m, 6 + n]
            for a in range(6):
                S += H_moved[6 + m, a] * G[a, n]
            weak[m, n] = beta * S + information[m, n]
            middle[m, n] = alpha * S + information[m, n]
    inverse = np.empty((count, count))
    if not cholesky_inverse(weak, inverse):
        return False
    found = multiply(multiply(inverse, middle), inverse)
    for m in range(count):
        for n in range(count):
            of_shape[m, n] = found[m, n]
    GC = multiply(G, found)
    total = 0.0
    for a in range(6):
        for b in range(6):
            given_shape = alpha / (beta * beta) * of_pose[a, b]
            value = given_shape
            for m in range(count):
                value += GC[a, m] * G[b, m]
            posterior.covariance_given_shape[face, a, b] = given_shape
            posterior.covariance[face, a, b] = value
            total += value
    return abs(total) < np.inf
