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
    H_pp, L, of_pose = np.empty((6, 6)), np.zeros((6, 6)), np.zeros((6, 6))
    for a in range(6):
        of_pose[a, a] = 1.0
        for b in range(6):
            H_pp[a, b] = H[a, b]
    if not cholesky(H_pp, L):
        return False
    cholesky_solve(L, of_pose)
    G = np.zeros((6, modes))
    for a in range(6):
        for b in range(6):
            for m in range(modes):
                G[a, m] -= of_pose[a, b] * H[b, 6 + m]
    weak, middle, inverse = (
        np.empty((modes, modes)),
        np.empty((modes, modes)),
        np.zeros((modes, modes)),
    )
    for m in range(modes):
        inverse[m, m] = 1.0
        for n in range(modes):
            S = H[6 + m, 6 + n]
            for a in range(6):
                S += H[6 + m, a] * G[a, n]
            weak[m, n] = beta * S + information[m, n]
            middle[m, n] = alpha * S + information[m, n]
    L_shape = np.zeros((modes, modes))
    if not cholesky(weak, L_shape):
        return False
    cholesky_solve(L_shape, inverse)
    of_modes = multiply(multiply(inverse, middle), inverse)

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
    GC = multiply(G_size, of_shape)
    of_pose_given_shape, of_all = posterior.covariance_given_shape, posterior.covariance
    total = 0.0
    for a in range(6):
        for b in range(6):
            scale = (size.mean if a < 3 else 1.0) * (size.mean if b < 3 else 1.0)
            given_shape = alpha / (beta * beta) * scale * of_pose[a, b]
            value = given_shape
            for m in range(1 + modes):
                value += GC[a, m] * G_size[b, m]
            of_pose_given_shape[face, a, b] = given_shape
            of_all[face, a, b] = value
            total += value
    return abs(total) < np.inf
