# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Closed-form start of the pose: no previous frame, no guess, any central camera; compiled.

The object-space cost of SQPnP (Terzakis and Lourakis, ECCV 2020, eq. 3-8) written for unit rays
instead of normalised coordinates, so that a fisheye's rays beyond 90 deg count like any other:
sum_i w_i ((I - f_i f_i^T) (R x_i + t))^2. The optimal t is linear in R, which leaves
r^T Omega r with r = vec(R). Omega's smallest eigenvectors, made rotations, are the starts of a
few Gauss-Newton steps on SO(3); the best one in front of the camera wins.

Poses are (3, 4) here, [R | t]; points and rays are (3, K).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.jit import inner
from face_pose_ros.geometry.linalg import inverse_3x3, symmetric_eigen
from face_pose_ros.geometry.rotations import exp_kernel
from face_pose_ros.pose.lm import lower_median
from face_pose_ros.pose.robust import NORMAL_MEDIAN

CANDIDATE_EIGENVECTORS = 3  # a face is nearly planar: the true one may not be the smallest
GAUSS_NEWTON_STEPS = 4  # from an eigenvector; the refinement that follows does the rest
# Between the head's x axis and the rays: a face turned away by more than 120 deg has no keypoints
# that a camera could see. The mean shape sometimes fits another person's best from inside.
MAX_COS_FORWARD = 0.5
MAX_TRACE_APART = 2.88  # of the rotation between two minima: more than 20 deg
SAMPLE_SIZE = 6  # keypoints of a hypothesis
SAMPLES = 23  # with 20 % outliers all of them are spoilt once in 1000 faces
OUTLIER_SCALE = 3.0  # of the residuals' robust standard deviation
# Median squared residual [sigma^2] above which outliers may have moved the solution of all. Two
# independent normal coordinates have 1.4; shapes that differ from the mean's bring up to ten.
SUSPICIOUS = 20.0
NEXT_BEST = 16.0  # ratio of the object-space costs up to which both minima are tried


def sample_order(count: int) -> NDArray[np.int64]:
    """(SAMPLES, count) order in which each sample prefers `count` keypoints.

    One fixed table of random ranks serves every face, so that a face's samples depend neither on
    its neighbours in the batch nor on the calls before.
    """
    ranks = np.random.RandomState(0).randint(2**24, size=(SAMPLES, count), dtype=np.uint32)
    return np.argsort(-ranks.astype(np.int64), axis=1, kind='stable')


@inner
def solve_pnp(xyz_head, measured, order, poses):
    """Two poses from 3-D points and the rays on which the camera sees them.

    Where the solution of all points does not fit half of them, that of a small sample may: the
    one with the least median error wins (Rousseeuw 1984), unless one more solve with all its
    inliers, by Geman-McClure weights, is better still. The second pose is the best one that is
    turned far from it: a face that is small in the picture is nearly flat, and has nearly the same
    projection from two sides. With fewer than six points of non-zero weight, or all of them on one
    line, the answers are finite but meaningless.

    Args:
        xyz_head: (3, K) points in the head frame [m].
        measured: See `lm.Measured`.
        order: (S, K) of `sample_order`.
        poses: (2, 3, 4), written; the second is the first where there is no other.
    """
    rays, weight = measured.rays, measured.weight
    count = len(weight)
    error, sorted_error = np.empty(count), np.empty(count)
    _solve(xyz_head, rays, weight, poses)
    if _median_residual(poses[0], xyz_head, measured, sorted_error) < SUSPICIOUS:
        return
    best = _median_sine(poses[0], xyz_head, rays, weight, error, sorted_error)
    sample, tried = np.empty(count), np.empty((2, 3, 4))
    for row in range(len(order)):
        chosen = 0
        for k in range(count):
            sample[k] = 0.0
        for rank in range(count):
            k = order[row, rank]
            if weight[k] > 0 and chosen < SAMPLE_SIZE:
                sample[k] = weight[k]
                chosen += 1
        _solve(xyz_head, rays, sample, tried)
        median = _median_sine(tried[0], xyz_head, rays, weight, error, sorted_error)
        if median < best:
            best = median
            _copy(tried[0], poses[0])
    _median_sine(poses[0], xyz_head, rays, weight, error, sorted_error)
    variance = max(best / NORMAL_MEDIAN, 1e-18)
    for k in range(count):
        inv = 1 / (1 + error[k] / (variance * OUTLIER_SCALE * OUTLIER_SCALE))
        sample[k] = weight[k] * inv * inv
    _solve(xyz_head, rays, sample, tried)
    # A sample may agree by chance with half of the others: then its inliers need not.
    if _median_sine(tried[0], xyz_head, rays, weight, error, sorted_error) < best:
        _copy(tried[0], poses[0])
        _copy(tried[1], poses[1])
    else:
        _copy(tried[0], poses[1])


@inner
def _copy(source, target):
    for i in range(3):
        for j in range(4):
            target[i, j] = source[i, j]


@inner
def _solve(xyz_head, rays, weight, poses):
    """The poses of least object-space cost and of the next minimum; identity if there is none.

    Both are in front of the camera and face it, if any do.
    """
    Omega, t_of_r = np.zeros((9, 9)), np.empty((3, 9))
    depth_of_r, centre, ray = np.zeros(9), np.zeros(3), np.zeros(3)
    _reduce(xyz_head, rays, weight, Omega, t_of_r, depth_of_r, centre, ray)
    total = 0.0
    for a in range(9):
        for b in range(9):
            total += Omega[a, b]
    if not abs(total) < np.inf:
        for i in range(3):
            for j in range(4):
                poses[0, i, j] = poses[1, i, j] = 1.0 if i == j else 0.0
        return
    values, vectors, spent = np.empty(9), np.empty((9, 9)), np.empty((9, 9))
    for a in range(9):
        for b in range(9):
            spent[a, b] = Omega[a, b]
    symmetric_eigen(spent, values, vectors)
    of_vectors = 2 * CANDIDATE_EIGENVECTORS
    count = of_vectors + 4
    R, cost = np.empty((count, 3, 3)), np.empty(count)
    best = 0
    for m in range(count):
        if m < of_vectors:
            _orthonormal(vectors, m // 2, 1.0 - 2 * (m % 2), R[m])
        else:
            _facing(ray, m - of_vectors, R[m])
        for _ in range(GAUSS_NEWTON_STEPS):
            _gauss_newton_step(Omega, R[m])
        depth, value, forward = 0.0, 0.0, 0.0
        for a in range(9):
            depth += depth_of_r[a] * R[m, a // 3, a % 3]
            for b in range(9):
                value += R[m, a // 3, a % 3] * Omega[a, b] * R[m, b // 3, b % 3]
        for i in range(3):
            forward += R[m, i, 0] * ray[i]
        cost[m] = value if depth > 0 and forward <= MAX_COS_FORWARD else np.inf
        if cost[m] < cost[best]:
            best = m
    # A minimum far above the other one is none of the keypoints'.
    next_best, least = best, NEXT_BEST * cost[best]
    for m in range(count):
        trace = 0.0
        for i in range(3):
            for j in range(3):
                trace += R[m, i, j] * R[best, i, j]
        if trace <= MAX_TRACE_APART and cost[m] < least:
            next_best, least = m, cost[m]
    _pose(R[best], t_of_r, centre, poses[0])
    _pose(R[next_best], t_of_r, centre, poses[1])


@inner
def _reduce(xyz_head, rays, weight, Omega, t_of_r, depth_of_r, centre, ray):
    """The cost as small matrices; the points are centred, so they are well conditioned.

    Args:
        xyz_head: (3, K) m.
        rays: (3, K) unit.
        weight: (K,) non-negative.
        Omega: (9, 9) zeros, written: the cost is r^T Omega r with row-major r = vec(R).
        t_of_r: (3, 9) written: the best translation is t_of_r @ r.
        depth_of_r: (9,) zeros, written: the weighted mean depth along the rays is depth_of_r @ r.
        centre: (3,) zeros, written: m, in the head frame.
        ray: (3,) zeros, written: weighted mean of the rays.
    """
    count = len(weight)
    total = 1e-300
    for k in range(count):
        total += weight[k]
        for i in range(3):
            centre[i] += weight[k] * xyz_head[i, k]
    total = max(total, 1e-12)
    for i in range(3):
        centre[i] /= total
    # With Q_i = w_i (I - f_i f_i^T) and R x = A r, A = kron(I, x^T):
    Q_sum, QA = np.zeros((3, 3)), np.zeros((3, 9))
    q, x = np.empty((3, 3)), np.empty(3)
    for k in range(count):
        w = weight[k] / total
        if w == 0:
            continue
        for i in range(3):
            x[i] = xyz_head[i, k] - centre[i]
            ray[i] += w * rays[i, k]
        for a in range(3):
            for b in range(3):
                q[a, b] = w * ((1.0 if a == b else 0.0) - rays[a, k] * rays[b, k])
                Q_sum[a, b] += q[a, b]
                depth_of_r[3 * a + b] += w * rays[a, k] * x[b]
        for a in range(3):
            for b in range(3):
                for j in range(3):
                    product = q[a, b] * x[j]
                    QA[a, 3 * b + j] += product
                    for i in range(3):
                        Omega[3 * a + i, 3 * b + j] += product * x[i]
    for a in range(3):
        Q_sum[a, a] += 1e-12
    inverse = inverse_3x3(Q_sum)
    for i in range(3):
        for a in range(9):
            t_of_r[i, a] = 0.0
            for j in range(3):
                t_of_r[i, a] -= inverse[i, j] * QA[j, a]
    for a in range(9):
        for i in range(3):
            depth_of_r[a] += ray[i] * t_of_r[i, a]
            for b in range(9):
                Omega[a, b] += QA[i, a] * t_of_r[i, b]
    for a in range(9):
        for b in range(a):
            Omega[a, b] = Omega[b, a] = 0.5 * (Omega[a, b] + Omega[b, a])


@inner
def _orthonormal(vectors, row, sign, R):
    """A rotation next to the matrix of a vector (Gram and Schmidt); the descent is exact."""
    norm_sq, along = 1e-30, 0.0
    for j in range(3):
        R[0, j] = sign * vectors[row, j]
        R[1, j] = sign * vectors[row, 3 + j]
        norm_sq += R[0, j] * R[0, j]
    for j in range(3):
        R[0, j] /= math.sqrt(norm_sq)
        along += R[0, j] * R[1, j]
    norm_sq = 1e-30
    for j in range(3):
        R[1, j] -= along * R[0, j]
        norm_sq += R[1, j] * R[1, j]
    for j in range(3):
        R[1, j] /= math.sqrt(norm_sq)
    for j in range(3):
        a, b = (j + 1) % 3, (j + 2) % 3
        R[2, j] = R[0, a] * R[1, b] - R[0, b] * R[1, a]


@inner
def _facing(ray, quarters, R):
    """The rotation of a face with its x axis along -ray, rolled by some quarters of a turn.

    The mean shape on another person's keypoints may have a minimum that no eigenvector leads to.
    """
    norm = math.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
    x0, x1, x2 = -ray[0] / norm, -ray[1] / norm, -ray[2] / norm
    # The person's left is on the picture's right; a fisheye's ray may be that direction itself.
    if abs(x0) > 0.9:
        y0, y1, y2 = -x2 * x0, -x2 * x1, 1 - x2 * x2
    else:
        y0, y1, y2 = 1 - x0 * x0, -x0 * x1, -x0 * x2
    norm = math.sqrt(y0 * y0 + y1 * y1 + y2 * y2)
    y0, y1, y2 = y0 / norm, y1 / norm, y2 / norm
    z0, z1, z2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    for _ in range(quarters):
        y0, y1, y2, z0, z1, z2 = z0, z1, z2, -y0, -y1, -y2
    R[0, 0], R[1, 0], R[2, 0] = x0, x1, x2
    R[0, 1], R[1, 1], R[2, 1] = y0, y1, y2
    R[0, 2], R[1, 2], R[2, 2] = z0, z1, z2


@inner
def _gauss_newton_step(Omega, R):
    """One step on min r^T Omega r over R <- exp(delta) R, in place."""
    Bt = np.zeros((3, 9))  # row i is vec(hat(e_i) R)
    for j in range(3):
        Bt[0, 3 + j], Bt[0, 6 + j] = -R[2, j], R[1, j]
        Bt[1, j], Bt[1, 6 + j] = R[2, j], -R[0, j]
        Bt[2, j], Bt[2, 3 + j] = -R[1, j], R[0, j]
    H, g, BtOmega = np.zeros((3, 3)), np.zeros(3), np.zeros(9)
    for i in range(3):
        for b in range(9):
            BtOmega[b] = 0.0
            for a in range(9):
                BtOmega[b] += Bt[i, a] * Omega[a, b]
        for b in range(9):
            g[i] += BtOmega[b] * R[b // 3, b % 3]
            for j in range(3):
                H[i, j] += BtOmega[b] * Bt[j, b]
    damping = 1e-9 * (H[0, 0] + H[1, 1] + H[2, 2]) + 1e-30
    for i in range(3):
        H[i, i] += damping
    inverse = inverse_3x3(H)
    delta, norm_sq = np.zeros(3), 0.0
    for i in range(3):
        for j in range(3):
            delta[i] -= inverse[i, j] * g[j]
        norm_sq += delta[i] * delta[i]
    # A step beyond a radian means a saddle, where the quadratic model does not hold.
    if norm_sq > 1:
        for i in range(3):
            delta[i] /= math.sqrt(norm_sq)
    turn = exp_kernel(delta)
    for j in range(3):
        x, y, z = R[0, j], R[1, j], R[2, j]
        for i in range(3):
            R[i, j] = turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] * z


@inner
def _pose(R, t_of_r, centre, pose):
    for i in range(3):
        pose[i, 3] = 0.0
        for a in range(9):
            pose[i, 3] += t_of_r[i, a] * R[a // 3, a % 3]
        for j in range(3):
            pose[i, j] = R[i, j]
            pose[i, 3] -= R[i, j] * centre[j]


@inner
def _median_residual(T, xyz_head, measured, squared):
    """Median squared whitened residual of the measured keypoints [sigma^2]."""
    rays, A, count = measured.rays, measured.A, 0
    for k in range(len(measured.weight)):
        if measured.weight[k] == 0:
            continue
        x, y, z = xyz_head[0, k], xyz_head[1, k], xyz_head[2, k]
        p0 = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
        p1 = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
        p2 = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        depth = rays[0, k] * p0 + rays[1, k] * p1 + rays[2, k] * p2
        u = (A[0, 0, k] * p0 + A[0, 1, k] * p1 + A[0, 2, k] * p2) / depth
        v = (A[1, 0, k] * p0 + A[1, 1, k] * p1 + A[1, 2, k] * p2) / depth
        squared[count] = u * u + v * v if depth > 0 else np.inf
        count += 1
    return lower_median(squared, count)


@inner
def _median_sine(T, xyz_head, rays, weight, error, measured_error):
    """Median over the measured keypoints of the squared sine between points and their rays.

    All of them are left in `error` (K,).
    """
    count = 0
    for k in range(len(weight)):
        x, y, z = xyz_head[0, k], xyz_head[1, k], xyz_head[2, k]
        p0 = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
        p1 = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
        p2 = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        along = rays[0, k] * p0 + rays[1, k] * p1 + rays[2, k] * p2
        norm_sq = max(p0 * p0 + p1 * p1 + p2 * p2, 1e-18)
        error[k] = max(1 - along * along / norm_sq, 0.0) if along > 0 else 1.0
        if weight[k] > 0:
            measured_error[count] = error[k]
            count += 1
    return lower_median(measured_error, count)
