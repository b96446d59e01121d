"""The solver of `refine`, compiled for CPUs: the same algorithm and the same answers.

On a CPU the arithmetic of a fit takes a fifth of a millisecond, and calling torch some thousand
times takes ten. Here one call of machine code solves all faces. Names and order follow
`residuals`, `levenberg_marquardt` and `covariance`, where the formulas are explained.

Arrays of points are laid out as (3, K), so that the inner loops run along memory.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.jit import compiled as _compiled
from face_pose_ros.geometry.lens import lens_of, unproject
from face_pose_ros.pose import covariance, levenberg_marquardt, pnp, residuals
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.levenberg_marquardt import StopReason
from face_pose_ros.pose.residuals import ShapePrior, coarse_stride
from face_pose_ros.types import HeadPoses, Keypoints

if TYPE_CHECKING:
    from face_pose_ros.pose.refine import PoseOptions

_NONE, _HUBER, _CAUCHY, _GEMAN_MCCLURE = range(4)
_KERNELS = {'none': _NONE, 'huber': _HUBER, 'cauchy': _CAUCHY, 'geman_mcclure': _GEMAN_MCCLURE}
_NORMAL_MEDIAN = 2 * math.log(2)
# Median squared residual [sigma^2] above which outliers may have moved the solution of all. Two
# independent normal coordinates have 1.4; shapes that differ from the mean's bring up to ten.
_SUSPICIOUS = 20.0
_NEXT_BEST = 16.0  # ratio of the object-space costs up to which both minima are looked into
_FACES_PER_THREAD = 2  # below this, handing work over costs more than it gains
_CONVERGED, _NO_DESCENT, _MAX_ITERATIONS, _TOO_FEW_KEYPOINTS, _NOT_IN_FRONT, _SINGULAR = (
    int(reason) for reason in StopReason
)


class _Constants(NamedTuple):
    """What the other files of this folder define."""

    candidate_eigenvectors: int
    gauss_newton_steps: int
    outlier_scale: float
    sample_size: int
    max_cos_forward: float
    max_trace_apart: float
    damping_start: float
    damping_min: float
    damping_max: float
    coarse_cost_tolerance: float
    min_keypoints: int
    invalid_sigmas: float
    min_cos: float
    tolerated_spread: float
    visibility_floor: float
    visibility_middle: float
    visibility_width: float
    min_relative_beta: float


_CONSTANTS = _Constants(
    candidate_eigenvectors=pnp.CANDIDATE_EIGENVECTORS,
    gauss_newton_steps=pnp.GAUSS_NEWTON_STEPS,
    outlier_scale=pnp.OUTLIER_SCALE,
    sample_size=pnp.SAMPLE_SIZE,
    max_cos_forward=pnp.MAX_COS_FORWARD,
    max_trace_apart=pnp.MAX_TRACE_APART,
    damping_start=levenberg_marquardt.DAMPING_START,
    damping_min=levenberg_marquardt.DAMPING_MIN,
    damping_max=levenberg_marquardt.DAMPING_MAX,
    coarse_cost_tolerance=levenberg_marquardt.COARSE_COST_TOLERANCE,
    min_keypoints=levenberg_marquardt.MIN_KEYPOINTS,
    invalid_sigmas=residuals.INVALID_SIGMAS,
    min_cos=residuals.MIN_COS,
    tolerated_spread=residuals.TOLERATED_SPREAD,
    visibility_floor=residuals.VISIBILITY_FLOOR,
    visibility_middle=residuals.VISIBILITY_MIDDLE,
    visibility_width=residuals.VISIBILITY_WIDTH,
    min_relative_beta=covariance.MIN_RELATIVE_BETA,
)


class _Shape(NamedTuple):
    xyz_head: NDArray  # (3, K)
    modes: NDArray  # (C, 3, K)
    normals: NDArray  # (3, K)


class _Measured(NamedTuple):
    rays: NDArray  # (3, K)
    A: NDArray  # (2, 3, K)
    weight: NDArray  # (K,) of the start; 0 where not measured
    information: float  # see `residuals.MapProblem`


class _Prior(NamedTuple):
    mean: NDArray  # (M,) of one face's modes, or (N, C) of all shapes or (1, C) of any
    information: NDArray  # (M, M), or (N, C, C)


class _Settings(NamedTuple):
    kernel: int
    kernel_scale: float
    visibility: bool
    independent_keypoints: float
    max_iterations: int
    step_tolerance: float
    cost_tolerance: float
    expected_alpha: float
    expected_beta: float


class _Work(NamedTuple):
    """What `_evaluate` leaves for `_linearise`."""

    Rx: NDArray  # (3, K)
    residual: NDArray  # (2, K)
    weight: NDArray  # (K,) of the robust kernel
    slope: NDArray  # (K,) of the robust kernel
    inv_depth: NDArray  # (K,) 0 where the point is too far from its ray
    # (1 + D padded to a multiple of 3, 2 K) derivatives by D unknowns and the residuals, scaled by
    # the square roots of the weights
    J: NDArray


class _Results(NamedTuple):
    """Of all faces, in the order of the fields of `HeadPoses`."""

    T_cam_head: NDArray
    covariance: NDArray
    covariance_given_shape: NDArray
    pose_of_shape: NDArray
    shape: NDArray
    shape_covariance: NDArray
    cost: NDArray
    iterations: NDArray
    stop: NDArray


def fit_pose(
    keypoints: Keypoints,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions,
    T_init: Tensor | None,
    shape_prior: ShapePrior,
) -> tuple[HeadPoses, Tensor, Tensor, Tensor]:
    """Poses, cost, iterations and stop reasons as in `refine.PoseResult`, without gradients."""
    faces, points, C = len(keypoints), len(model.xyz_head), len(model.shape_names)
    results = _Results(
        T_cam_head=np.tile(np.eye(4), (faces, 1, 1)),
        covariance=np.full((faces, 6, 6), np.inf),
        covariance_given_shape=np.full((faces, 6, 6), np.inf),
        pose_of_shape=np.zeros((faces, 6, C)),
        shape=np.zeros((faces, C)),
        shape_covariance=np.full((faces, C, C), np.inf),
        cost=np.zeros(faces),
        iterations=np.zeros(faces, dtype=np.int64),
        stop=np.zeros(faces, dtype=np.int64),
    )
    if T_init is not None:
        results.T_cam_head[:] = T_init.numpy()
    inputs = (
        _float64(keypoints.uv[:, :points]),
        _float64(keypoints.cov_uv[:, :points]),
        lens_of(camera),
        *_model_arrays(model),
        _Prior(shape_prior.mean.numpy(), shape_prior.information.numpy()),
        model.size_sigma,
        _Settings(
            _KERNELS[options.kernel],
            options.kernel_scale,
            options.visibility,
            options.independent_keypoints,
            options.max_iterations,
            options.step_tolerance,
            options.cost_tolerance,
            *options.efficiency,
        ),
        T_init is not None,
        _CONSTANTS,
        results,
    )
    workers = min(torch.get_num_threads(), faces // _FACES_PER_THREAD)
    if workers > 1:
        ends = np.linspace(0, faces, workers + 1).astype(int)
        parts = [_threads().submit(_solve_faces, i, j, *inputs) for i, j in pairwise(ends[1:])]
        _solve_faces(0, ends[1], *inputs)
        for part in parts:
            part.result()
    else:
        _solve_faces(0, faces, *inputs)
    *of_pose, cost, iterations, stop = (torch.from_numpy(array) for array in results)
    poses = HeadPoses(*of_pose, stop >= _TOO_FEW_KEYPOINTS)  # type: ignore[call-arg]
    return poses, cost, iterations, stop


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix='fit_pose')


def _float64(tensor: Tensor) -> NDArray[np.float64]:
    """Always contiguous: numba compiles again, for seconds, for another layout."""
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float64)


@lru_cache(maxsize=4)
def _model_arrays(model: FaceModel) -> tuple[_Shape, _Shape, NDArray, int]:
    """The shape, the shape of the coarse keypoints, their samples and their stride."""
    stride = coarse_stride(len(model.xyz_head))
    order = pnp.sample_ranks(len(model.xyz_head[::stride])).argsort(dim=-1, descending=True)
    shape, coarse = (
        _Shape(_float64(m.xyz_head.T), _float64(m.modes.mT), _float64(m.normals.T))
        for m in (model, model.every(stride))
    )
    return shape, coarse, np.ascontiguousarray(order.numpy()), stride


@_compiled
def _solve_faces(
    first,
    last,
    uv,
    cov_uv,
    lens,
    shape,
    coarse_shape,
    sample_order,
    stride,
    priors,
    size_sigma,
    settings,
    has_start,
    constants,
    results,
):
    """Faces first to last - 1, into the results; T_cam_head holds the start if there is one."""
    for i in range(first, last):
        T = results.T_cam_head[i]
        R, t = T[:3, :3].copy(), T[:3, 3].copy()
        T[:] = np.eye(4)
        measured = _measure(uv[i], cov_uv[i], lens, settings.independent_keypoints)
        coarse = _every(stride, measured, settings.independent_keypoints)
        if (measured.weight > 0).sum() < constants.min_keypoints:
            results.stop[i] = _TOO_FEW_KEYPOINTS
            continue
        row = min(i, len(priors.mean) - 1)
        prior = _Prior(
            priors.mean[row, 1:].copy(),
            np.ascontiguousarray(priors.information[row, 1:, 1:]),
        )
        size = 1 + size_sigma * priors.mean[row, 0]
        if has_start:
            R_first, t_first = R, t / size
            R_next, t_next = R_first, t_first
        else:
            R_first, t_first, R_next, t_next = _start(
                coarse_shape.xyz_head,
                coarse.rays,
                coarse.A,
                coarse.weight,
                sample_order,
                constants,
            )
        R, t, c, least = _roughly(
            R_first, t_first, coarse, coarse_shape, prior, settings, constants
        )
        if (R_first * R_next).sum() < constants.max_trace_apart:
            R_other, t_other, c_other, other = _roughly(
                R_next, t_next, coarse, coarse_shape, prior, settings, constants
            )
            if other < least:
                R, t, c = R_other, t_other, c_other
        if settings.visibility:
            measured = _weigh_visible(measured, shape.normals, R, constants)
        R, t, c, H, alpha, beta, cost, iterations, stop = _minimise(
            R,
            t,
            c,
            measured,
            shape,
            prior,
            settings,
            settings.cost_tolerance,
            1.0,
            settings.expected_beta,
            constants,
        )
        regular = _covariance(
            H,
            prior.information,
            max(alpha, settings.expected_alpha),
            min(max(beta, constants.min_relative_beta * settings.expected_beta), 1.0),
            t,
            size,
            size_sigma,
            1 / priors.information[row, 0, 0],
            i,
            results,
        )
        if not (
            regular and np.isfinite(R).all() and np.isfinite(t).all() and np.isfinite(c).all()
        ):
            stop = _SINGULAR
        elif t[2] <= 0 and not lens.fisheye:
            stop = _NOT_IN_FRONT
        results.cost[i] = cost
        results.iterations[i] = iterations
        results.stop[i] = stop
        if stop >= _TOO_FEW_KEYPOINTS:
            results.covariance[i] = np.inf
            results.covariance_given_shape[i] = np.inf
            results.shape_covariance[i] = np.inf
            results.pose_of_shape[i] = 0
        else:
            T[:3, :3] = R
            T[:3, 3] = size * t
            results.shape[i, 0] = priors.mean[row, 0]
            results.shape[i, 1:] = c


@_compiled
def _measure(uv, cov_uv, lens, independent_keypoints):
    count = len(uv)
    usable, xy = np.zeros(count, dtype=np.bool_), np.zeros((2, count))
    for k in range(count):
        uu, cross, vv = cov_uv[k, 0, 0], cov_uv[k, 0, 1], cov_uv[k, 1, 1]
        definite = uu > 0 and uu * vv - cross * cross > 0 and np.isfinite(uu) and np.isfinite(vv)
        if definite and np.isfinite(uv[k, 0]) and np.isfinite(uv[k, 1]):
            usable[k] = True
            xy[0, k] = (uv[k, 0] - lens.c[0]) / lens.f[0]
            xy[1, k] = (uv[k, 1] - lens.c[1]) / lens.f[1]
    rays, J = np.zeros((3, count)), np.zeros((2, 3, count))
    unproject(lens, xy, rays, J, usable)
    A, weight = np.zeros((2, 3, count)), np.zeros(count)
    for k in range(count):
        if not usable[k]:
            rays[0, k], rays[1, k], rays[2, k] = 0, 0, 1
            continue
        uu, cross, vv = cov_uv[k, 0, 0], cov_uv[k, 0, 1], cov_uv[k, 1, 1]
        a, root = np.sqrt(uu), np.sqrt(uu * vv - cross * cross)
        of_u, of_v, of_cross = lens.f[0] / a, a * lens.f[1] / root, cross / a * lens.f[0] / root
        for i in range(3):
            A[0, i, k] = of_u * J[0, i, k]
            A[1, i, k] = of_v * J[1, i, k] - of_cross * J[0, i, k]
            weight[k] += 0.5 * (A[0, i, k] ** 2 + A[1, i, k] ** 2)
    return _Measured(rays, A, weight, min(independent_keypoints / max(usable.sum(), 1), 1.0))


@_compiled
def _every(stride, measured, independent_keypoints):
    rays = measured.rays[:, ::stride].copy()
    A = measured.A[:, :, ::stride].copy()
    weight = measured.weight[::stride].copy()
    information = min(independent_keypoints / max((weight > 0).sum(), 1), 1.0)
    return _Measured(rays, A, weight, information)


@_compiled
def _weigh_visible(measured, normals, R, constants):
    A = np.empty_like(measured.A)
    for k in range(A.shape[2]):
        cos = 0.0
        for i in range(3):
            for j in range(3):
                cos -= measured.rays[i, k] * R[i, j] * normals[j, k]
        logistic = 1 / (
            1 + np.exp(-(cos - constants.visibility_middle) / constants.visibility_width)
        )
        scale = np.sqrt(constants.visibility_floor + (1 - constants.visibility_floor) * logistic)
        for i in range(2):
            for j in range(3):
                A[i, j, k] = scale * measured.A[i, j, k]
    return _Measured(measured.rays, A, measured.weight, measured.information)


@_compiled
def _minimise(
    R, t, c, measured, shape, prior, settings, cost_tolerance, widening, curvature, constants
):
    """R, t, c, H of the keypoints, alpha, beta, cost, iterations and stop reason."""
    unknowns, count = 6 + len(c), len(measured.weight)
    work = _workspace(len(c), count)
    H, H_damped = np.zeros((unknowns, unknowns)), np.zeros((unknowns, unknowns))
    L = np.zeros((unknowns, unknowns))
    step, g = np.zeros((unknowns, 1)), np.zeros(unknowns)

    kernel = settings.kernel, settings.kernel_scale * widening
    cost = _evaluate(R, t, c, measured, shape, prior, kernel, work, constants)
    damping, stop, tried = constants.damping_start, _MAX_ITERATIONS, 0
    accept = stale = True
    for _ in range(settings.max_iterations if np.isfinite(cost) else 0):
        tried += 1
        if stale:
            _linearise(R, c, measured, shape, prior, work, H, g)
            stale = False
        for i in range(unknowns):
            for j in range(unknowns):
                H_damped[i, j] = curvature * H[i, j]
                if i >= 6 and j >= 6:
                    H_damped[i, j] += prior.information[i - 6, j - 6]
            H_damped[i, i] += damping * H_damped[i, i] + 1e-12
            step[i, 0] = -g[i]
        if _cholesky(H_damped, L):
            _cholesky_solve(L, step)
        else:
            step[:] = 0
        R_new = _rotate_left(step[3:6, 0], R)
        t_new, c_new = t + step[:3, 0], c + step[6:, 0]
        cost_new = _evaluate(R_new, t_new, c_new, measured, shape, prior, kernel, work, constants)
        tolerance = settings.step_tolerance
        small = _norm(step[:3, 0]) < tolerance * _norm(t) and _norm(step[3:6, 0]) < tolerance
        for i in range(6, unknowns):
            small = small and abs(step[i, 0]) < tolerance
        accept = cost_new <= cost
        converged = small or (accept and cost - cost_new < cost_tolerance * cost)
        if accept:
            R, t, c, cost, stale = R_new, t_new, c_new, cost_new, True
            damping = max(damping * 0.1, constants.damping_min)
        else:
            damping *= 10
        if converged:
            stop = _CONVERGED
            break
        if damping > constants.damping_max:
            stop = _NO_DESCENT
            break
    if not accept:
        cost = _evaluate(R, t, c, measured, shape, prior, kernel, work, constants)
    # A converged face's last step is too small to change H.
    if stop != _CONVERGED:
        _linearise(R, c, measured, shape, prior, work, H, g)
    alpha, beta = _observed_efficiency(work)
    return R, t, c, H, alpha, beta, cost, tried, stop


@_compiled
def _roughly(R, t, measured, shape, prior, settings, constants):
    """See `refine._roughly`: R, t, c below one start, and their cost."""
    seen = measured
    if settings.visibility:
        seen = _weigh_visible(measured, shape.normals, R, constants)
    c = prior.mean.copy()
    work = _workspace(len(c), len(measured.weight))
    kernel = settings.kernel, settings.kernel_scale
    _evaluate(R, t, c, seen, shape, prior, kernel, work, constants)
    squared = np.empty(len(seen.weight))
    count = 0
    for k in range(len(seen.weight)):
        if seen.weight[k] > 0:
            squared[count] = work.residual[0, k] ** 2 + work.residual[1, k] ** 2
            count += 1
    spread = np.sqrt(_lower_median(squared[:count]) / _NORMAL_MEDIAN)
    R, t, c, _, _, _, _, _, _ = _minimise(
        R,
        t,
        c,
        seen,
        shape,
        prior,
        settings,
        constants.coarse_cost_tolerance,
        max(spread / constants.tolerated_spread, 1.0),
        1.0,
        constants,
    )
    cost = _evaluate(R, t, c, measured, shape, prior, kernel, work, constants)
    return R, t, c, cost


@_compiled
def _workspace(modes, count):
    return _Work(
        np.empty((3, count)),
        np.empty((2, count)),
        np.empty(count),
        np.empty(count),
        np.empty(count),
        np.zeros((-(-(7 + modes) // 3) * 3, 2 * count)),
    )


@_compiled
def _norm(v):
    return np.sqrt((v * v).sum())


@_compiled
def _evaluate(R, t, c, measured, shape, prior, kernel, work, constants):
    """The cost."""
    rays, A, Rx, residual = measured.rays, measured.A, work.Rx, work.residual
    count = len(measured.weight)
    x = shape.xyz_head.copy()
    for m in range(len(c)):
        for i in range(3):
            for k in range(count):
                x[i, k] += c[m] * shape.modes[m, i, k]
    for k in range(count):
        for i in range(3):
            Rx[i, k] = R[i, 0] * x[0, k] + R[i, 1] * x[1, k] + R[i, 2] * x[2, k]
    # Without branches the loop is vectorised.
    for k in range(count):
        p0, p1, p2 = Rx[0, k] + t[0], Rx[1, k] + t[1], Rx[2, k] + t[2]
        depth = rays[0, k] * p0 + rays[1, k] * p1 + rays[2, k] * p2
        near = depth > constants.min_cos * np.sqrt(p0 * p0 + p1 * p1 + p2 * p2)
        seen = measured.weight[k] > 0
        inv_depth = 1 / depth if near else 0.0
        u = (A[0, 0, k] * p0 + A[0, 1, k] * p1 + A[0, 2, k] * p2) * inv_depth
        v = (A[1, 0, k] * p0 + A[1, 1, k] * p1 + A[1, 2, k] * p2) * inv_depth
        far = 0.0 if near else constants.invalid_sigmas
        residual[0, k] = u + far if seen else 0.0
        residual[1, k] = v + far if seen else 0.0
        work.inv_depth[k] = inv_depth if seen else 0.0
    cost = 0.5 * measured.information * _robust_kernel(kernel[0], kernel[1], work)
    for k in range(count):
        if measured.weight[k] == 0:
            work.weight[k] = work.slope[k] = 0.0
    for i in range(len(c)):
        for j in range(len(c)):
            pull = prior.information[i, j] * (c[j] - prior.mean[j])
            cost += 0.5 * (c[i] - prior.mean[i]) * pull
    return cost


@_compiled
def _robust_kernel(kind, scale, work):
    """Sum of rho of the squared residuals; leaves their weights and slopes. See `robust`."""
    residual, weight, slope = work.residual, work.weight, work.slope
    scale_sq, total = scale * scale, 0.0
    for k in range(len(weight)):
        s = residual[0, k] * residual[0, k] + residual[1, k] * residual[1, k]
        inv = 1 / (1 + s / scale_sq)
        if kind == _GEMAN_MCCLURE:
            total += s * inv
            weight[k] = inv * inv
            slope[k] = -2 / scale_sq * inv * inv * inv
        elif kind == _CAUCHY:
            total += scale_sq * math.log1p(s / scale_sq)
            weight[k] = inv
            slope[k] = -inv * inv / scale_sq
        elif kind == _HUBER and s > scale_sq:
            root = math.sqrt(s)
            total += 2 * scale * root - scale_sq
            weight[k] = scale / root
            slope[k] = -0.5 * scale / (root * s)
        else:
            total += s
            weight[k] = 1.0
            slope[k] = 0.0
    return total


@_compiled
def _linearise(R, c, measured, shape, prior, work, H, g):
    """H of the keypoints and the gradient of the whole cost, where `_evaluate` was last."""
    rays, A, J, Rx = measured.rays, measured.A, work.J, work.Rx
    count = len(measured.weight)
    Jx = np.empty((3, count))  # with respect to the point in the head frame
    last = len(g)
    for row in range(2):
        first = row * count
        for k in range(count):
            root = np.sqrt(measured.information * work.weight[k])
            scale = root * work.inv_depth[k]
            residual = work.residual[row, k]
            a = (A[row, 0, k] - residual * rays[0, k]) * scale
            b = (A[row, 1, k] - residual * rays[1, k]) * scale
            d = (A[row, 2, k] - residual * rays[2, k]) * scale
            J[0, first + k], J[1, first + k], J[2, first + k] = a, b, d
            J[3, first + k] = Rx[1, k] * d - Rx[2, k] * b
            J[4, first + k] = Rx[2, k] * a - Rx[0, k] * d
            J[5, first + k] = Rx[0, k] * b - Rx[1, k] * a
            J[last, first + k] = root * residual
            for j in range(3):
                Jx[j, k] = a * R[0, j] + b * R[1, j] + d * R[2, j]
        for m in range(len(c)):
            for k in range(count):
                J[6 + m, first + k] = (
                    Jx[0, k] * shape.modes[m, 0, k]
                    + Jx[1, k] * shape.modes[m, 1, k]
                    + Jx[2, k] * shape.modes[m, 2, k]
                )
    _gram(J, H, g)
    for i in range(len(c)):
        for j in range(len(c)):
            g[6 + i] += prior.information[i, j] * (c[j] - prior.mean[j])


@_compiled
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


@_compiled
def _observed_efficiency(work):
    total, gradient, curvature = 0.0, 0.0, 0.0
    for k in range(len(work.weight)):
        s = work.residual[0, k] ** 2 + work.residual[1, k] ** 2
        total += work.weight[k]
        gradient += work.weight[k] * work.weight[k] * s
        curvature += work.weight[k] + s * work.slope[k]
    total = max(total, 1e-12)
    return 0.5 * gradient / total * 2 * total / max(2 * total - 6, 1.0), curvature / total


@_compiled
def _covariance(H, prior_information, alpha, beta, t, size, size_sigma, size_variance, i, results):
    """Fill face i of the results; False where the keypoints do not fix the pose."""
    modes = len(H) - 6
    L = np.zeros((6, 6))
    of_pose = np.eye(6)
    if not _cholesky(H[:6, :6], L):
        return False
    _cholesky_solve(L, of_pose)
    G = -_multiply(of_pose, H[:6, 6:])
    S = H[6:, 6:] + _multiply(H[6:, :6], G)
    L_shape = np.zeros((modes, modes))
    inverse = np.eye(modes)
    if not _cholesky(beta * S + prior_information, L_shape):
        return False
    _cholesky_solve(L_shape, inverse)
    middle = alpha * S + prior_information

    scale = np.ones(6)
    scale[:3] = size
    pose_of_shape, shape_covariance = results.pose_of_shape[i], results.shape_covariance[i]
    for a in range(6):
        for b in range(6):
            results.covariance_given_shape[i, a, b] = (
                alpha / (beta * beta) * scale[a] * of_pose[a, b] * scale[b]
            )
        for m in range(modes):
            pose_of_shape[a, 1 + m] = scale[a] * G[a, m]
    pose_of_shape[:3, 0] = size_sigma * t
    pose_of_shape[3:, 0] = 0
    shape_covariance[:] = 0
    shape_covariance[0, 0] = size_variance
    shape_covariance[1:, 1:] = _multiply(_multiply(inverse, middle), inverse)
    of_shape = _multiply(_multiply(pose_of_shape, shape_covariance), pose_of_shape.T)
    results.covariance[i] = results.covariance_given_shape[i] + of_shape
    return np.isfinite(results.covariance[i]).all()


# The start: see `pnp`. Small samples are drawn only if the solution of all keypoints does not fit
# half of them.


@_compiled
def _start(xyz, rays, A, weight, sample_order, constants):
    """Two R (3, 3) and t (3,) of one face; the second is the first where there is no other.

    Args:
        xyz: (3, K) m.
        rays: (3, K) unit.
        A: (2, 3, K) see `residuals.MapProblem`.
        weight: (K,) non-negative.
        sample_order: (S, K) keypoints in the order in which each sample prefers them.
        constants: `_Constants`.
    """
    count = len(weight)
    R, t, R_next, t_next = _solve_pnp(xyz, rays, weight, constants)
    error = np.empty(count)
    if _median_residual(R, t, xyz, rays, A, weight, error) < _SUSPICIOUS:
        return R, t, R_next, t_next
    best = _median_sine(R, t, xyz, rays, weight, error)
    for order in sample_order:
        sample = np.zeros(count)
        chosen = 0
        for k in order:
            if weight[k] > 0:
                sample[k] = weight[k]
                chosen += 1
                if chosen == constants.sample_size:
                    break
        R_sample, t_sample, _, _ = _solve_pnp(xyz, rays, sample, constants)
        median = _median_sine(R_sample, t_sample, xyz, rays, weight, error)
        if median < best:
            best, R, t = median, R_sample, t_sample
    _median_sine(R, t, xyz, rays, weight, error)
    variance = max(best / _NORMAL_MEDIAN, 1e-18)
    inliers = np.empty(count)
    for k in range(count):
        inv = 1 / (1 + error[k] / (variance * constants.outlier_scale * constants.outlier_scale))
        inliers[k] = weight[k] * inv * inv
    R_all, t_all, R_next, t_next = _solve_pnp(xyz, rays, inliers, constants)
    if _median_sine(R_all, t_all, xyz, rays, weight, error) < best:
        return R_all, t_all, R_next, t_next
    return R, t, R_all, t_all


@_compiled
def _solve_pnp(xyz, rays, weight, constants):
    """As `_ObjectSpaceSystem.minimise`; identity if there is no such pose."""
    Omega, t_of_r, depth_of_r, centre, ray = _system(xyz, rays, weight)
    if not np.isfinite(Omega).all():
        return np.eye(3), np.zeros(3), np.eye(3), np.zeros(3)
    vectors = np.linalg.eigh(Omega)[1]
    of_vectors = 2 * constants.candidate_eigenvectors
    count = of_vectors + 4
    R, cost = np.empty((count, 3, 3)), np.full(count, np.inf)
    for m in range(count):
        if m < of_vectors:
            R[m] = _orthonormal((1 - 2 * (m % 2)) * vectors[:, m // 2])
        else:
            R[m] = _facing(ray, m - of_vectors)
        for _ in range(constants.gauss_newton_steps):
            R[m] = _gauss_newton_step(R[m], Omega)
        r = R[m].ravel()
        depth, total, forward = 0.0, 0.0, 0.0
        for a in range(9):
            depth += depth_of_r[a] * r[a]
            for b in range(9):
                total += r[a] * Omega[a, b] * r[b]
        for i in range(3):
            forward += R[m, i, 0] * ray[i]
        if depth > 0 and forward <= constants.max_cos_forward:
            cost[m] = total
    best = cost.argmin()
    for m in range(count):
        if (R[m] * R[best]).sum() > constants.max_trace_apart and m != best:
            cost[m] = np.inf
    least = cost[best]
    cost[best] = np.inf
    next_best = cost.argmin()
    # A minimum far above the other one is none of the keypoints'.
    if not cost[next_best] < _NEXT_BEST * least:
        next_best = best
    t, t_next = _translation(R[best], t_of_r, centre), _translation(R[next_best], t_of_r, centre)
    return R[best], t, R[next_best], t_next


@_compiled
def _facing(ray, quarters):
    """Rotation of a face that looks along -ray, rolled by some quarters of a turn."""
    x = -ray / _norm(ray)
    right = np.zeros(3)
    right[2 if abs(x[0]) > 0.9 else 0] = 1
    y = right - (right * x).sum() * x
    y /= _norm(y)
    z = np.array([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]])
    R = np.empty((3, 3))
    for _ in range(quarters):
        y, z = z, -y
    R[:, 0], R[:, 1], R[:, 2] = x, y, z
    return R


@_compiled
def _translation(R, t_of_r, centre):
    t = np.zeros(3)
    for i in range(3):
        for a in range(9):
            t[i] += t_of_r[i, a] * R[a // 3, a % 3]
        for j in range(3):
            t[i] -= R[i, j] * centre[j]
    return t


@_compiled
def _system(xyz, rays, weight):
    count = len(weight)
    total = max(weight.sum(), 1e-12)
    centre = np.zeros(3)
    for i in range(3):
        for k in range(count):
            centre[i] += weight[k] * xyz[i, k]
    centre /= total
    Q_sum = np.zeros((3, 3))
    Qx = np.zeros((9, 3))  # sum of Q_ab x_j at [3 a + b, j]
    Qxx = np.zeros((9, 9))  # sum of Q_ab x_i x_j at [3 a + b, 3 i + j]
    ray_x = np.zeros(9)
    ray_sum = np.zeros(3)
    q, x = np.empty(9), np.empty(3)
    for k in range(count):
        w = weight[k] / total
        if w == 0:
            continue
        for i in range(3):
            x[i] = xyz[i, k] - centre[i]
            ray_sum[i] += w * rays[i, k]
        for a in range(3):
            for b in range(3):
                q[3 * a + b] = w * ((1.0 if a == b else 0.0) - rays[a, k] * rays[b, k])
                ray_x[3 * a + b] += w * rays[a, k] * x[b]
        for ab in range(9):
            Q_sum[ab // 3, ab % 3] += q[ab]
            for i in range(3):
                product = q[ab] * x[i]
                Qx[ab, i] += product
                for j in range(3):
                    Qxx[ab, 3 * i + j] += product * x[j]
    for a in range(3):
        Q_sum[a, a] += 1e-12
    # sum_i Q_i A_i with A = kron(I, x^T): row a, column 3 b + j.
    QA = np.empty((3, 9))
    AQA = np.empty((9, 9))
    for a in range(3):
        for b in range(3):
            for i in range(3):
                QA[a, 3 * b + i] = Qx[3 * a + b, i]
                for j in range(3):
                    AQA[3 * a + i, 3 * b + j] = Qxx[3 * a + b, 3 * i + j]
    t_of_r = -_multiply(_inverse_3x3(Q_sum), QA)
    Omega = AQA + _multiply(QA.T, t_of_r)
    depth_of_r = ray_x
    for a in range(9):
        for i in range(3):
            depth_of_r[a] += ray_sum[i] * t_of_r[i, a]
    return 0.5 * (Omega + Omega.T), t_of_r, depth_of_r, centre, ray_sum


@_compiled
def _gauss_newton_step(R, Omega):
    Bt = np.zeros((3, 9))  # row i is vec(hat(e_i) R)
    for j in range(3):
        Bt[0, 3 + j], Bt[0, 6 + j] = -R[2, j], R[1, j]
        Bt[1, j], Bt[1, 6 + j] = R[2, j], -R[0, j]
        Bt[2, j], Bt[2, 3 + j] = -R[1, j], R[0, j]
    OmegaB = _multiply(Bt, Omega)
    H = _multiply(OmegaB, Bt.T)
    damping = 1e-9 * (H[0, 0] + H[1, 1] + H[2, 2]) + 1e-30
    g = np.zeros(3)
    for i in range(3):
        H[i, i] += damping
        for a in range(9):
            g[i] += OmegaB[i, a] * R[a // 3, a % 3]
    delta = np.zeros(3)
    inverse = _inverse_3x3(H)
    for i in range(3):
        for j in range(3):
            delta[i] -= inverse[i, j] * g[j]
    norm = math.sqrt((delta * delta).sum())
    if norm > 1:
        delta /= norm
    return _rotate_left(delta, R)


@_compiled
def _inverse_3x3(A):
    B = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b = (i + 1) % 3, (i + 2) % 3
            c, d = (j + 1) % 3, (j + 2) % 3
            B[j, i] = A[a, c] * A[b, d] - A[a, d] * A[b, c]
    determinant = A[0, 0] * B[0, 0] + A[0, 1] * B[1, 0] + A[0, 2] * B[2, 0]
    return B / determinant


@_compiled
def _orthonormal(r):
    """A rotation next to the matrix of r (Gram and Schmidt); the descent that follows is exact."""
    R = np.empty((3, 3))
    a = r[0:3] / math.sqrt((r[0:3] * r[0:3]).sum() + 1e-30)
    b = r[3:6] - (a * r[3:6]).sum() * a
    b = b / math.sqrt((b * b).sum() + 1e-30)
    R[0], R[1] = a, b
    R[2, 0] = a[1] * b[2] - a[2] * b[1]
    R[2, 1] = a[2] * b[0] - a[0] * b[2]
    R[2, 2] = a[0] * b[1] - a[1] * b[0]
    return R


@_compiled
def _median_residual(R, t, xyz, rays, A, weight, error):
    """Median squared whitened residual of the measured keypoints [sigma^2]."""
    measured = 0
    for k in range(len(weight)):
        if weight[k] == 0:
            continue
        p0 = R[0, 0] * xyz[0, k] + R[0, 1] * xyz[1, k] + R[0, 2] * xyz[2, k] + t[0]
        p1 = R[1, 0] * xyz[0, k] + R[1, 1] * xyz[1, k] + R[1, 2] * xyz[2, k] + t[1]
        p2 = R[2, 0] * xyz[0, k] + R[2, 1] * xyz[1, k] + R[2, 2] * xyz[2, k] + t[2]
        depth = rays[0, k] * p0 + rays[1, k] * p1 + rays[2, k] * p2
        u = (A[0, 0, k] * p0 + A[0, 1, k] * p1 + A[0, 2, k] * p2) / depth
        v = (A[1, 0, k] * p0 + A[1, 1, k] * p1 + A[1, 2, k] * p2) / depth
        error[measured] = u * u + v * v if depth > 0 else np.inf
        measured += 1
    return _lower_median(error[:measured])


@_compiled
def _median_sine(R, t, xyz, rays, weight, error):
    """Median over the measured keypoints of the squared sine between points and their rays.

    All of them are left in `error` (K,).
    """
    measured = np.empty(len(weight))
    count = 0
    for k in range(len(weight)):
        p0 = R[0, 0] * xyz[0, k] + R[0, 1] * xyz[1, k] + R[0, 2] * xyz[2, k] + t[0]
        p1 = R[1, 0] * xyz[0, k] + R[1, 1] * xyz[1, k] + R[1, 2] * xyz[2, k] + t[1]
        p2 = R[2, 0] * xyz[0, k] + R[2, 1] * xyz[1, k] + R[2, 2] * xyz[2, k] + t[2]
        along = rays[0, k] * p0 + rays[1, k] * p1 + rays[2, k] * p2
        norm_sq = max(p0 * p0 + p1 * p1 + p2 * p2, 1e-18)
        error[k] = max(1 - along * along / norm_sq, 0.0) if along > 0 else 1.0
        if weight[k] > 0:
            measured[count] = error[k]
            count += 1
    return _lower_median(measured[:count])


# Single points, rotations and small matrices: see `geometry`.


@_compiled
def _lower_median(values):
    """Median as torch has it: of an even number the lower one in the middle; 0 of none."""
    if len(values) == 0:
        return 0.0
    return np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2]


@_compiled
def _rotate_left(omega, R):
    """exp(omega) R."""
    x, y, z = omega
    angle_sq = x * x + y * y + z * z
    if angle_sq < 1e-8:
        a, b = 1 - angle_sq / 6, 0.5 - angle_sq / 24
    else:
        angle = math.sqrt(angle_sq)
        a, b = math.sin(angle) / angle, (1 - math.cos(angle)) / angle_sq
    E = np.empty((3, 3))
    E[0, 0], E[1, 1] = 1 - b * (y * y + z * z), 1 - b * (x * x + z * z)
    E[2, 2] = 1 - b * (x * x + y * y)
    E[0, 1], E[1, 0] = b * x * y - a * z, b * x * y + a * z
    E[0, 2], E[2, 0] = b * x * z + a * y, b * x * z - a * y
    E[1, 2], E[2, 1] = b * y * z - a * x, b * y * z + a * x
    return _multiply(E, R)


@_compiled
def _multiply(A, B):
    """Product of small matrices, without a library call."""
    C = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            for j in range(B.shape[1]):
                C[i, j] += A[i, k] * B[k, j]
    return C


@_compiled
def _cholesky(A, L):
    """Lower factor of A into L; False if A is not positive definite."""
    for i in range(len(A)):
        for j in range(i + 1):
            total = A[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total > 0:
                    return False
                L[i, i] = math.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    return True


@_compiled
def _cholesky_solve(L, B):
    """Columns of A^-1 B in place of B, from the factor of A."""
    n = len(L)
    for i in range(n):
        for k in range(i):
            for j in range(B.shape[1]):
                B[i, j] -= L[i, k] * B[k, j]
        for j in range(B.shape[1]):
            B[i, j] /= L[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            for j in range(B.shape[1]):
                B[i, j] -= L[k, i] * B[k, j]
        for j in range(B.shape[1]):
            B[i, j] /= L[i, i]
