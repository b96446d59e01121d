# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the optimiser minimises, and Levenberg-Marquardt on it: one face at a time, compiled.

A keypoint with pixel uv and covariance Sigma is a ray f with an uncertainty across it. With
J = d uv / d xyz of the whole lens at f and L^T L = Sigma^-1, a head point p in the camera frame
has the whitened residual

    r = A p / (f . p),   A = L J,

since p / (f . p) = f + delta with delta across f, A f = 0, and A delta = L d uv. Distortion is
in J exactly, to first order in the noise; the loop that minimises never sees the lens again, and
rays beyond 90 deg of a fisheye are like any other.

The unknowns are the pose of a head of mean size and the C = 1 + M coefficients of its shape. The
pose is perturbed on the left, R <- exp(omega) R and t <- t + dt; steps are ordered (dt, omega,
dc), the first six in the order, axes and frame of a ROS covariance. The size, by its coefficient
c_0, scales face and translation together and leaves the picture as it is: keypoints have no
derivative by it. The modes follow it.

A depth image measures the range rho along a ray f to the tangent plane of a surface point p with
the normal n: p lies in the plane where n . p = rho n . f. The residual is the difference of ranges

    r = (a . p - rho) / sigma,   a = n / (n . f),   p = s (R x + t),

linear in p, because the normal is kept from where the depth image was read.

Points are laid out as (3, K), so that the inner loops run along memory.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.jit import inner
from face_pose_ros.geometry.lens import unproject
from face_pose_ros.geometry.linalg import cholesky, cholesky_solve
from face_pose_ros.geometry.rotations import exp_kernel
from face_pose_ros.options import KERNELS
from face_pose_ros.pose.robust import NORMAL_MEDIAN, robust_kernel

# A point further than 84 deg from its ray has no residual. It costs as much as one this many
# standard deviations off: the number of terms never changes, so costs stay comparable.
MIN_COS = 0.1
INVALID_SIGMAS = 1e3

# Of the ranges' kernel [sigma]. It is Huber's: ranges that share their error would otherwise be
# given up together where the prior expects another size.
RANGE_KERNEL, RANGE_KERNEL_SCALE = 'huber', 3.0
_HUBER = KERNELS.index(RANGE_KERNEL)

TOLERATED_SPREAD = 2.0  # of the residuals, in sigma, before the kernel becomes wider

# Information of a keypoint on skin that is seen at the cosine c (1: face on, below 0: from
# behind), relative to a visible one: FLOOR + (1 - FLOOR) / (1 + exp(-(c - MIDDLE) / WIDTH)).
VISIBILITY_FLOOR = 0.05
VISIBILITY_MIDDLE = 0.1
VISIBILITY_WIDTH = 0.1

DAMPING_START, DAMPING_MIN, DAMPING_MAX = 1e-4, 1e-12, 1e8


class StopReason(IntEnum):
    """Why the optimiser stopped. From TOO_FEW_KEYPOINTS on, the face has failed."""

    CONVERGED = 0  # the step or the decrease of the cost fell below its tolerance
    NO_DESCENT = 1  # damping at its limit: no step lowers the cost any more
    MAX_ITERATIONS = 2
    TOO_FEW_KEYPOINTS = 3  # fewer than MIN_KEYPOINTS finite keypoints with a direction
    NOT_IN_FRONT = 4  # the head came out behind the camera
    SINGULAR = 5  # the keypoints do not fix the pose, or a number overflowed


_CONVERGED, _NO_DESCENT, _MAX_ITERATIONS = (int(reason) for reason in list(StopReason)[:3])


class Points(NamedTuple):
    """K points of a face model and their M modes."""

    xyz_head: NDArray[np.float64]  # (3, K) m
    modes: NDArray[np.float64]  # (M, 3, K) m per prior standard deviation
    normals: NDArray[np.float64]  # (3, K) unit, out of the head


class Measured(NamedTuple):
    """K measured keypoints of one face."""

    rays: NDArray[np.float64]  # (3, K) unit
    A: NDArray[np.float64]  # (2, 3, K) whitened residual per unit of deviation across the ray
    weight: NDArray[np.float64]  # (K,) of the closed form: 1 / rad^2; 0 where not measured


class Ranges(NamedTuple):
    """Measured ranges to N points of one face's surface; zeros where there is none."""

    points: Points  # N
    a: NDArray[np.float64]  # (3, N) whitened residual per metre
    rho: NDArray[np.float64]  # (N,) measured range, whitened
    size_sigma: float  # relative standard deviation of the size over adults
    information: float  # factor by which all count less, because their errors move together


class Prior(NamedTuple):
    """Normal distribution of the shape."""

    mean: NDArray[np.float64]  # (C,)
    information: NDArray[np.float64]  # (C, C) inverse of the covariance


class Cost(NamedTuple):
    """How residuals count."""

    kernel: int  # index into `options.KERNELS`
    scale: float  # of the kernel [sigma]
    # Factor by which all keypoints count less, because their errors move together.
    information: float


class Tolerances(NamedTuple):
    """When `minimise` stops."""

    max_iterations: int  # steps tried at most
    step: float  # of the rotation [rad], the translation [of distance] and the shape, or
    cost: float  # relative decrease of the cost


class RangeWork(NamedTuple):
    """The part of `Work` that belongs to N ranges."""

    x: NDArray[np.float64]  # (3, N)
    Rx: NDArray[np.float64]  # (3, N)
    residual: NDArray[np.float64]  # (N,)
    weight: NDArray[np.float64]  # (N,) of the robust kernel
    slope: NDArray[np.float64]  # (N,) of the robust kernel
    J: NDArray[np.float64]  # (1 + D padded to a multiple of 3, N)
    H: NDArray[np.float64]  # (D, D) of the ranges alone
    g: NDArray[np.float64]  # (D,)


class Work(NamedTuple):
    """Memory of `minimise`; what `evaluate` leaves in it is for `linearise`."""

    x: NDArray[np.float64]  # (3, K) the deformed face, then the Jacobian by its points
    Rx: NDArray[np.float64]  # (3, K)
    residual: NDArray[np.float64]  # (2, K)
    weight: NDArray[np.float64]  # (K,) of the robust kernel
    slope: NDArray[np.float64]  # (K,) of the robust kernel
    inv_depth: NDArray[np.float64]  # (K,) 0 where the point is too far from its ray
    # (1 + D padded to a multiple of 3, 2 K) derivatives by D = 6 + C unknowns and the residuals,
    # scaled by the square roots of the weights
    J: NDArray[np.float64]
    H: NDArray[np.float64]  # (D, D) of keypoints and ranges, robustly weighted
    g: NDArray[np.float64]  # (D,) gradient of the whole cost
    ranges: RangeWork


class Descent(NamedTuple):
    """Where `minimise` came to; H there is in `Work`."""

    cost: float  # negative log posterior up to a constant
    iterations: int  # steps tried
    stop: int  # CONVERGED, NO_DESCENT or MAX_ITERATIONS
    alpha: float  # see `robust.Efficiency`, as observed on the keypoints
    beta: float


@inner
def workspace(shape, count, ranges):
    """`Work` for so many coefficients of the shape, keypoints and ranges."""
    unknowns = 6 + shape
    rows = (unknowns + 3) // 3 * 3
    return Work(
        np.empty((3, count)),
        np.empty((3, count)),
        np.empty((2, count)),
        np.empty(count),
        np.empty(count),
        np.empty(count),
        np.zeros((rows, 2 * count)),
        np.empty((unknowns, unknowns)),
        np.empty(unknowns),
        RangeWork(
            np.empty((3, ranges)),
            np.empty((3, ranges)),
            np.empty(ranges),
            np.empty(ranges),
            np.empty(ranges),
            np.zeros((rows, ranges)),
            np.empty((unknowns, unknowns)),
            np.empty(unknowns),
        ),
    )


@inner
def no_ranges(points):
    """`Ranges` of a face without a depth image."""
    modes = len(points.modes)
    none = Points(np.empty((3, 0)), np.empty((modes, 3, 0)), np.empty((3, 0)))
    return Ranges(none, np.empty((3, 0)), np.empty(0), 0.0, 0.0)


@inner
def measure(uv, cov_uv, lens):
    """Rays and whitening of keypoints uv (K, 2) px with covariances cov_uv (K, 2, 2) px^2.

    One that is not finite, without a ray, or whose covariance has no inverse is not measured.
    """
    count = len(uv)
    usable, points = np.zeros(count, dtype=np.bool_), np.zeros((2, count))
    for k in range(count):
        uu, cross, vv = cov_uv[k, 0, 0], cov_uv[k, 0, 1], cov_uv[k, 1, 1]
        # Comparisons: reassociated sums may cancel within math.isfinite, which is x - x == 0.
        definite = uu > 0 and uu * vv - cross * cross > 0 and max(uu, vv) < np.inf
        if definite and abs(uv[k, 0]) < np.inf and abs(uv[k, 1]) < np.inf:
            usable[k] = True
            points[0, k], points[1, k] = uv[k, 0], uv[k, 1]
    rays, J, A = np.empty((3, count)), np.empty((2, 3, count)), np.zeros((2, 3, count))
    weight = np.zeros(count)
    unproject(lens, points, rays, J, usable)
    for k in range(count):
        if not usable[k]:
            rays[0, k], rays[1, k], rays[2, k] = 0.0, 0.0, 1.0
            continue
        # L is the inverse of the Cholesky factor [[a, 0], [cross / a, root / a]] of Sigma.
        uu, cross, vv = cov_uv[k, 0, 0], cov_uv[k, 0, 1], cov_uv[k, 1, 1]
        a, root = math.sqrt(uu), math.sqrt(uu * vv - cross * cross)
        for i in range(3):
            u = J[0, i, k] / a
            v = (a * J[1, i, k] - cross / a * J[0, i, k]) / root
            A[0, i, k], A[1, i, k] = u, v
            weight[k] += 0.5 * (u * u + v * v)
    return Measured(rays, A, weight)


@inner
def every(stride, measured):
    """Every stride-th of the keypoints."""
    rays_of_all, A_of_all, weight_of_all = measured.rays, measured.A, measured.weight
    count = (len(weight_of_all) + stride - 1) // stride
    rays, A, weight = np.empty((3, count)), np.empty((2, 3, count)), np.empty(count)
    for k in range(count):
        weight[k] = weight_of_all[k * stride]
        for i in range(3):
            rays[i, k] = rays_of_all[i, k * stride]
            for row in range(2):
                A[row, i, k] = A_of_all[row, i, k * stride]
    return Measured(rays, A, weight)


@inner
def weigh_visible(measured, normals, T):
    """The same keypoints, uncertain where a head at T (3, 4) hides them from the camera."""
    rays, A_seen = measured.rays, measured.A
    count = rays.shape[1]
    A = np.empty((2, 3, count))
    for k in range(count):
        cos = 0.0
        for i in range(3):
            for j in range(3):
                cos -= rays[i, k] * T[i, j] * normals[j, k]
        logistic = 1 / (1 + math.exp(-(cos - VISIBILITY_MIDDLE) / VISIBILITY_WIDTH))
        scale = math.sqrt(VISIBILITY_FLOOR + (1 - VISIBILITY_FLOOR) * logistic)
        for i in range(2):
            for j in range(3):
                A[i, j, k] = scale * A_seen[i, j, k]
    return Measured(rays, A, measured.weight)


@inner
def count_measured(measured):
    """How many of the keypoints were measured."""
    weight, count = measured.weight, 0
    for k in range(len(weight)):
        if weight[k] > 0:
            count += 1
    return count


@inner
def minimise(T, c, measured, points, ranges, prior, cost, tolerances, curvature, work):
    """Lower the cost from T and c, in place; accepts no step that raises it.

    Args:
        T: (3, 4) pose of the head, of mean size.
        c: (C,) the size's coefficient, then the modes.
        measured: The keypoints.
        points: The face.
        ranges: From a depth image, or none.
        prior: Of c.
        cost: How residuals count.
        tolerances: When to stop.
        curvature: Of the robust cost, as a part of what its weights say: beta of
            `robust.efficiency` near the minimum, 1 far from it.
        work: Memory; `work.H` is that of the minimum afterwards.

    Returns:
        A `Descent`.
    """
    unknowns = 6 + len(c)
    H, g, precision = work.H, work.g, prior.information
    A, L = np.empty((unknowns, unknowns)), np.zeros((unknowns, unknowns))
    step = np.empty((unknowns, 1))
    T_new, c_new = np.empty((3, 4)), np.empty(len(c))
    value = evaluate(T, c, measured, points, ranges, prior, cost, work)
    damping, stop, tried = DAMPING_START, _MAX_ITERATIONS, 0
    accept = stale = True
    for _ in range(tolerances.max_iterations if abs(value) < np.inf else 0):
        tried += 1
        if stale:
            linearise(T, c, measured, points, ranges, prior, cost, work)
            stale = False
        # (A + damping diag A) step = -g with A = curvature H + P (Marquardt 1963)
        for i in range(unknowns):
            for j in range(unknowns):
                A[i, j] = curvature * H[i, j]
                if i >= 6 and j >= 6:
                    A[i, j] += precision[i - 6, j - 6]
            A[i, i] += damping * A[i, i] + 1e-12
            step[i, 0] = -g[i]
        if cholesky(A, L):
            cholesky_solve(L, step)
        else:
            for i in range(unknowns):
                step[i, 0] = 0.0
        _move(T, c, step, T_new, c_new)
        value_new = evaluate(T_new, c_new, measured, points, ranges, prior, cost, work)
        accept = value_new <= value
        converged = _is_small(step, T, tolerances.step) or (
            accept and value - value_new < tolerances.cost * value
        )
        if accept:
            _take(T_new, c_new, T, c)
            value, stale = value_new, True
            damping = max(damping * 0.1, DAMPING_MIN)
        else:
            damping *= 10
        if converged:
            stop = _CONVERGED
            break
        if damping > DAMPING_MAX:
            stop = _NO_DESCENT
            break
    if not accept:
        value = evaluate(T, c, measured, points, ranges, prior, cost, work)
    # A converged face's last step is too small to change H.
    if stop != _CONVERGED:
        linearise(T, c, measured, points, ranges, prior, cost, work)
    alpha, beta = _observed_efficiency(work)
    return Descent(value, tried, stop, alpha, beta)


@inner
def _move(T, c, step, T_new, c_new):
    """T and c moved by a step (6 + C, 1), into T_new and c_new."""
    omega = np.empty(3)
    for i in range(3):
        omega[i] = step[3 + i, 0]
    turn = exp_kernel(omega)
    for i in range(3):
        for j in range(3):
            T_new[i, j] = turn[i, 0] * T[0, j] + turn[i, 1] * T[1, j] + turn[i, 2] * T[2, j]
        T_new[i, 3] = T[i, 3] + step[i, 0]
    for m in range(len(c)):
        c_new[m] = c[m] + step[6 + m, 0]


@inner
def _take(T_from, c_from, T, c):
    for i in range(3):
        for j in range(4):
            T[i, j] = T_from[i, j]
    for m in range(len(c)):
        c[m] = c_from[m]


@inner
def _is_small(step, T, tolerance):
    dt_sq, omega_sq, t_sq = 0.0, 0.0, 0.0
    for i in range(3):
        dt_sq += step[i, 0] * step[i, 0]
        omega_sq += step[3 + i, 0] * step[3 + i, 0]
        t_sq += T[i, 3] * T[i, 3]
    small = dt_sq < tolerance * tolerance * t_sq and omega_sq < tolerance * tolerance
    for i in range(6, len(step)):
        small = small and abs(step[i, 0]) < tolerance
    return small


@inner
def evaluate(T, c, measured, points, ranges, prior, cost, work):
    """The cost: half the sum of rho and of the squared deviation from the prior."""
    rays, A, was_measured = measured.rays, measured.A, measured.weight
    x, Rx, residual, inv_depths = work.x, work.Rx, work.residual, work.inv_depth
    xyz_head, modes = points.xyz_head, points.modes
    count = len(was_measured)
    for i in range(3):
        for k in range(count):
            x[i, k] = xyz_head[i, k]
    for m in range(len(modes)):
        for i in range(3):
            for k in range(count):
                x[i, k] += c[1 + m] * modes[m, i, k]
    # Without branches the loop is vectorised.
    for k in range(count):
        for i in range(3):
            Rx[i, k] = T[i, 0] * x[0, k] + T[i, 1] * x[1, k] + T[i, 2] * x[2, k]
        p0, p1, p2 = Rx[0, k] + T[0, 3], Rx[1, k] + T[1, 3], Rx[2, k] + T[2, 3]
        depth = rays[0, k] * p0 + rays[1, k] * p1 + rays[2, k] * p2
        near = depth > MIN_COS * math.sqrt(p0 * p0 + p1 * p1 + p2 * p2)
        seen = was_measured[k] > 0
        inv_depth = 1 / depth if near else 0.0
        u = (A[0, 0, k] * p0 + A[0, 1, k] * p1 + A[0, 2, k] * p2) * inv_depth
        v = (A[1, 0, k] * p0 + A[1, 1, k] * p1 + A[1, 2, k] * p2) * inv_depth
        far = 0.0 if near else INVALID_SIGMAS
        residual[0, k] = u + far if seen else 0.0
        residual[1, k] = v + far if seen else 0.0
        inv_depths[k] = inv_depth if seen else 0.0
    weights, slopes, kernel, scale = work.weight, work.slope, cost.kernel, cost.scale
    total = 0.0
    for k in range(count):
        s = residual[0, k] * residual[0, k] + residual[1, k] * residual[1, k]
        rho, weight, slope = robust_kernel(kernel, scale, s)
        seen = was_measured[k] > 0
        total += rho  # 0 where nothing was measured
        weights[k] = weight if seen else 0.0
        slopes[k] = slope if seen else 0.0
    total *= cost.information
    if len(ranges.rho) > 0:
        total += ranges.information * _evaluate_ranges(T, c, ranges, work.ranges)
    mean, precision = prior.mean, prior.information
    for i in range(len(c)):
        for j in range(len(c)):
            total += (c[i] - mean[i]) * precision[i, j] * (c[j] - mean[j])
    return 0.5 * total


@inner
def linearise(T, c, measured, points, ranges, prior, cost, work):
    """H of what was measured, gradient of the whole cost, where `evaluate` was last."""
    rays, A, modes = measured.rays, measured.A, points.modes
    J, g, Rx, Jx = work.J, work.g, work.Rx, work.x
    residuals, weights, inv_depths = work.residual, work.weight, work.inv_depth
    information, count = cost.information, len(weights)
    last = 6 + len(c)
    # Row 6, of the size, stays 0.
    for row in range(2):
        first = row * count
        for k in range(count):
            root = math.sqrt(information * weights[k])
            scale = root * inv_depths[k]
            residual = residuals[row, k]
            a = (A[row, 0, k] - residual * rays[0, k]) * scale
            b = (A[row, 1, k] - residual * rays[1, k]) * scale
            d = (A[row, 2, k] - residual * rays[2, k]) * scale
            J[0, first + k], J[1, first + k], J[2, first + k] = a, b, d
            # d(exp(omega) R x) / d omega = -hat(R x): a row times it is a cross product.
            J[3, first + k] = Rx[1, k] * d - Rx[2, k] * b
            J[4, first + k] = Rx[2, k] * a - Rx[0, k] * d
            J[5, first + k] = Rx[0, k] * b - Rx[1, k] * a
            J[last, first + k] = root * residual
            for j in range(3):
                Jx[j, k] = a * T[0, j] + b * T[1, j] + d * T[2, j]
        for m in range(len(modes)):
            for k in range(count):
                J[7 + m, first + k] = (
                    Jx[0, k] * modes[m, 0, k]
                    + Jx[1, k] * modes[m, 1, k]
                    + Jx[2, k] * modes[m, 2, k]
                )
    _gram(J, work.H, g)
    if len(ranges.rho) > 0:
        _linearise_ranges(T, c, ranges, work.ranges)
        for i in range(last):
            g[i] += work.ranges.g[i]
            for j in range(last):
                work.H[i, j] += work.ranges.H[i, j]
    mean, precision = prior.mean, prior.information
    for i in range(len(c)):
        for j in range(len(c)):
            g[6 + i] += precision[i, j] * (c[j] - mean[j])


@inner
def _evaluate_ranges(T, c, ranges, work):
    """The sum of rho over the ranges."""
    x, Rx, residual, points, a = work.x, work.Rx, work.residual, ranges.points, ranges.a
    modes, count = points.modes, len(residual)
    size = 1 + ranges.size_sigma * c[0]
    for i in range(3):
        for k in range(count):
            x[i, k] = points.xyz_head[i, k]
    for m in range(len(modes)):
        for i in range(3):
            for k in range(count):
                x[i, k] += c[1 + m] * modes[m, i, k]
    total = 0.0
    for k in range(count):
        along = 0.0
        for i in range(3):
            Rx[i, k] = T[i, 0] * x[0, k] + T[i, 1] * x[1, k] + T[i, 2] * x[2, k]
            along += a[i, k] * (Rx[i, k] + T[i, 3])
        residual[k] = size * along - ranges.rho[k]
        s = residual[k] * residual[k]
        rho, weight, slope = robust_kernel(_HUBER, RANGE_KERNEL_SCALE, s)
        total += rho
        measured = ranges.rho[k] > 0
        work.weight[k] = weight if measured else 0.0
        work.slope[k] = slope if measured else 0.0
    return total


@inner
def _linearise_ranges(T, c, ranges, work):
    """H and gradient of the ranges."""
    J, Rx, residual, a, modes = work.J, work.Rx, work.residual, ranges.a, ranges.points.modes
    count, last = len(residual), 6 + len(c)
    size = 1 + ranges.size_sigma * c[0]
    for k in range(count):
        root = math.sqrt(ranges.information * work.weight[k])
        scale = root * size
        u, v, w = scale * a[0, k], scale * a[1, k], scale * a[2, k]
        J[0, k], J[1, k], J[2, k] = u, v, w
        J[3, k] = Rx[1, k] * w - Rx[2, k] * v
        J[4, k] = Rx[2, k] * u - Rx[0, k] * w
        J[5, k] = Rx[0, k] * v - Rx[1, k] * u
        J[last, k] = root * residual[k]
        J[6, k] = root * ranges.size_sigma / size * (residual[k] + ranges.rho[k])
        for j in range(3):
            work.x[j, k] = u * T[0, j] + v * T[1, j] + w * T[2, j]
    for m in range(len(modes)):
        for k in range(count):
            J[7 + m, k] = (
                work.x[0, k] * modes[m, 0, k]
                + work.x[1, k] * modes[m, 1, k]
                + work.x[2, k] * modes[m, 2, k]
            )
    _gram(J, work.H, work.g)


@inner
def range_efficiency(work):
    """Alpha and beta of `robust.Efficiency` as observed on the ranges."""
    total, gradient, curvature = 0.0, 0.0, 0.0
    for k in range(len(work.residual)):
        s = work.residual[k] * work.residual[k]
        total += work.weight[k]
        gradient += work.weight[k] * work.weight[k] * s
        curvature += work.weight[k] + 2 * s * work.slope[k]
    total = max(total, 1e-12)
    return gradient / total, curvature / total


@inner
def _gram(J, H, g):
    """H = J J^T and g = J r for the first rows of J, the row r after them and padding.

    Tiles of 3 x 3 stay in registers, which makes this twice as fast as one sum after the other.
    """
    size = len(H)
    tile = np.empty((3, 3))
    for i in range(0, len(J), 3):
        for j in range(0, i + 1, 3):
            a00 = a01 = a02 = a10 = a11 = a12 = a20 = a21 = a22 = 0.0
            for k in range(J.shape[1]):
                x, y, z = J[i, k], J[i + 1, k], J[i + 2, k]
                u, v, w = J[j, k], J[j + 1, k], J[j + 2, k]
                a00 += x * u
                a01 += x * v
                a02 += x * w
                a10 += y * u
                a11 += y * v
                a12 += y * w
                a20 += z * u
                a21 += z * v
                a22 += z * w
            tile[0, 0], tile[0, 1], tile[0, 2] = a00, a01, a02
            tile[1, 0], tile[1, 1], tile[1, 2] = a10, a11, a12
            tile[2, 0], tile[2, 1], tile[2, 2] = a20, a21, a22
            for a in range(min(3, size - i)):
                for b in range(min(3, size - j)):
                    H[i + a, j + b] = H[j + b, i + a] = tile[a, b]
            if i <= size < i + 3:
                for b in range(min(3, size - j)):
                    g[j + b] = tile[size - i, b]


@inner
def _observed_efficiency(work):
    residual, weight, slope = work.residual, work.weight, work.slope
    total, gradient, curvature = 0.0, 0.0, 0.0
    for k in range(len(weight)):
        s = residual[0, k] * residual[0, k] + residual[1, k] * residual[1, k]
        total += weight[k]
        gradient += weight[k] * weight[k] * s
        curvature += weight[k] + s * slope[k]
    total = max(total, 1e-12)
    redundancy = 2 * total / max(2 * total - 6, 1.0)  # six of the numbers are fitted
    return 0.5 * gradient / total * redundancy, curvature / total


@inner
def widened(T, c, measured, points, prior, cost, work):
    """The kernel's scale, wider if the residuals are far larger than their sigma.

    The mean shape fits no person exactly: a kernel for noise would call a long chin an outlier.
    """
    evaluate(T, c, measured, points, no_ranges(points), prior, cost, work)
    was_measured, residual = measured.weight, work.residual
    squared, count = np.empty(len(was_measured)), 0
    for k in range(len(was_measured)):
        if was_measured[k] > 0:
            squared[count] = residual[0, k] * residual[0, k] + residual[1, k] * residual[1, k]
            count += 1
    spread = math.sqrt(lower_median(squared, count) / NORMAL_MEDIAN)
    return cost.scale * max(spread / TOLERATED_SPREAD, 1.0)


@inner
def lower_median(values, count):
    """Median of the first values, of an even number the lower one in the middle; 0 of none.

    Hoare's selection, in place: np.partition takes seconds to compile.
    """
    middle, low, high = (count - 1) // 2, 0, count - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            break
    return values[middle] if count else 0.0
