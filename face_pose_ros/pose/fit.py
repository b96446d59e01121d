# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Maximum a posteriori pose and shape of N faces from their keypoints."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage, no_depth
from face_pose_ros.geometry.jit import compiled, inner
from face_pose_ros.geometry.linalg import cholesky_inverse
from face_pose_ros.options import KERNELS, DepthOptions, PoseOptions
from face_pose_ros.pose.covariance import (
    MIN_RELATIVE_BETA,
    PoseCovariance,
    posterior_covariance,
)
from face_pose_ros.pose.face_model import MEAN_INTERPUPILLARY_M, FaceModel
from face_pose_ros.pose.lm import (
    RANGE_KERNEL,
    RANGE_KERNEL_SCALE,
    Cost,
    Points,
    Prior,
    StopReason,
    Tolerances,
    count_measured,
    evaluate,
    every,
    measure,
    minimise,
    no_ranges,
    range_efficiency,
    weigh_visible,
    widened,
    workspace,
)
from face_pose_ros.pose.pnp import MAX_TRACE_APART, sample_order, solve_pnp
from face_pose_ros.pose.ranges import RangeNoise, read_ranges, surface_of
from face_pose_ros.pose.robust import efficiency
from face_pose_ros.results import HeadPoses, Keypoints

Array = NDArray[np.float64]

MIN_KEYPOINTS = 6  # what the closed-form start needs
# Of the first round, which only decides between the starts.
COARSE_COST_TOLERANCE = 1e-2
_KNOWN_SIZE = 1e-9  # a smaller relative standard deviation of the size is none
_FACES_PER_THREAD = 2  # below this, handing work over costs more than it gains
_TOO_FEW_KEYPOINTS, _NOT_IN_FRONT, _SINGULAR = (int(reason) for reason in list(StopReason)[3:])


@dataclass(frozen=True, eq=False)
class ShapePrior:
    """Normal distribution of the shape coefficients of N faces, or of any face (N = 1)."""

    mean: Array  # (N, C) prior standard deviations of the model
    covariance: Array  # (N, C, C) positive definite


@dataclass(frozen=True, eq=False)
class PoseResult:
    """Poses of N faces and how the optimiser got there."""

    poses: HeadPoses
    cost: Array  # (N,) at the end: negative log posterior up to a constant
    iterations: NDArray[np.int64]  # (N,) steps tried with all keypoints
    stop: NDArray[np.int64]  # (N,) a StopReason each


class _Problem(NamedTuple):
    """What all faces of a call have in common."""

    points: Points
    coarse: Points  # every stride-th of them: enough to know roughly where the head is
    stride: int
    sample_order: NDArray[np.int64]
    size_sigma: float
    kernel: int
    kernel_scale: float
    visibility: bool
    independent_keypoints: float
    tolerances: Tolerances
    coarse_tolerances: Tolerances
    alpha: float  # of the kernel under normal noise, see `robust.Efficiency`
    beta: float
    surface: Points  # of the skin, where a depth image is read
    range_noise: RangeNoise
    range_alpha: float  # as alpha, for ranges


class _Results(NamedTuple):
    """Of all faces, see `HeadPoses` and `PoseResult`."""

    T_cam_head: Array
    covariance: Array
    covariance_given_shape: Array
    pose_of_shape: Array
    shape: Array
    shape_covariance: Array
    cost: Array
    iterations: NDArray[np.int64]
    stop: NDArray[np.int64]
    depth: Array


@lru_cache(maxsize=4)
def default_shape_prior(model: FaceModel, options: PoseOptions) -> ShapePrior:
    """The prior of an unknown person's shape: N(0, 1), but for a size given by the pupils."""
    C = len(model.shape_names)
    mean, covariance = np.zeros((1, C)), np.eye(C)[None]
    if model.size_sigma:
        excess_m = 1e-3 * options.interpupillary_mm - MEAN_INTERPUPILLARY_M
        mean[:, 0] = model.size_per_m * excess_m / model.size_sigma
        sigma = math.hypot(
            model.size_per_m * 1e-3 * options.interpupillary_sigma_mm,
            model.size_sigma_given_pupils,
        )
        covariance[:, 0, 0] = (sigma / model.size_sigma) ** 2
    return ShapePrior(mean, covariance)


def fit_pose(
    keypoints: Keypoints,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions | None = None,
    T_init: Array | None = None,
    shape_prior: ShapePrior | None = None,
    threads: int | None = None,
    depth: DepthImage | None = None,
    depth_options: DepthOptions | None = None,
) -> PoseResult:
    """Pose and shape of each face that best explain its keypoints through the camera's lens.

    Minimises 1/2 sum_i rho(r_i^2) + 1/2 (c - c0)^2 over rotation, translation and shape
    coefficients (see `lm`), from a closed form and without memory, in two rounds: the second one
    down-weights the keypoints that the head of the first one hides from the camera, and has the
    ranges of a depth image, with which the size is estimated too.

    A face that can't be solved (see `StopReason`) is marked failed, has an identity pose and an
    infinite covariance, and leaves the other faces as they would be without it.

    Args:
        keypoints: N faces, the first K of their keypoints belong to the model's points.
        model: Face model with K points.
        camera: Of the image in which the keypoints were measured.
        options: See `PoseOptions`.
        T_init: (N, 4, 4) start poses T_cam_head; None starts from the closed form.
        shape_prior: What is known of the N shapes already; None is `default_shape_prior`.
        threads: Number of faces solved at a time; None: one on each core.
        depth: Taken at the same time.
        depth_options: See `DepthOptions`.
    """
    options = options or PoseOptions()
    prior = shape_prior or default_shape_prior(model, options)
    faces, K, C = len(keypoints), len(model.xyz_head), len(model.shape_names)
    results = _Results(
        T_cam_head=np.empty((faces, 4, 4)),
        covariance=np.empty((faces, 6, 6)),
        covariance_given_shape=np.empty((faces, 6, 6)),
        pose_of_shape=np.empty((faces, 6, C)),
        shape=np.empty((faces, C)),
        shape_covariance=np.empty((faces, C, C)),
        cost=np.zeros(faces),
        iterations=np.zeros(faces, dtype=np.int64),
        stop=np.zeros(faces, dtype=np.int64),
        depth=np.zeros((faces, 4)),
    )
    if T_init is not None:
        results.T_cam_head[:] = T_init
    inputs = (
        # One layout of everything: numba compiles anew, for seconds, for another.
        np.ascontiguousarray(keypoints.uv[:, :K], dtype=np.float64),
        np.ascontiguousarray(keypoints.cov_uv[:, :K], dtype=np.float64),
        camera.numba_lens,
        _problem(model, options, depth_options or DepthOptions()),
        np.ascontiguousarray(prior.mean, dtype=np.float64),
        np.ascontiguousarray(prior.covariance, dtype=np.float64),
        T_init is not None,
        depth.view if depth else no_depth(camera),
        results,
    )
    workers = min(threads or _cores(), faces // _FACES_PER_THREAD)
    if workers > 1:
        ends = np.linspace(0, faces, workers + 1).astype(int).tolist()
        parts = [_threads().submit(_solve_faces, i, j, *inputs) for i, j in pairwise(ends[1:])]
        _solve_faces(0, ends[1], *inputs)
        for part in parts:
            part.result()
    else:
        _solve_faces(0, faces, *inputs)
    poses = HeadPoses(
        T_cam_head=results.T_cam_head,
        covariance=results.covariance,
        covariance_given_shape=results.covariance_given_shape,
        pose_of_shape=results.pose_of_shape,
        shape=results.shape,
        shape_covariance=results.shape_covariance,
        failed=results.stop >= _TOO_FEW_KEYPOINTS,
        depth=results.depth,
    )
    return PoseResult(poses, results.cost, results.iterations, results.stop)


def coarse_stride(count: int) -> int:
    """Every how many-th of `count` keypoints the first round uses."""
    return 4 if count >= 200 else 1


@lru_cache(maxsize=8)
def _problem(model: FaceModel, options: PoseOptions, depth: DepthOptions) -> _Problem:
    stride = coarse_stride(len(model.xyz_head))
    coarse = model.every(stride)
    return _Problem(
        _points(model),
        _points(coarse),
        stride,
        sample_order(len(coarse.xyz_head)),
        float(model.size_sigma),
        KERNELS.index(options.kernel),
        float(options.kernel_scale),
        bool(options.visibility),
        float(options.independent_keypoints),
        Tolerances(
            options.max_iterations, float(options.step_tolerance), float(options.cost_tolerance)
        ),
        Tolerances(options.max_iterations, float(options.step_tolerance), COARSE_COST_TOLERANCE),
        *efficiency(options.kernel, options.kernel_scale),
        _points(surface_of(model)),
        RangeNoise(float(depth.noise_per_m), float(depth.bias_per_m)),
        efficiency(RANGE_KERNEL, RANGE_KERNEL_SCALE, 1).alpha,
    )


def _points(model: FaceModel) -> Points:
    return Points(
        np.ascontiguousarray(model.xyz_head.T),
        np.ascontiguousarray(model.modes.transpose(0, 2, 1)),
        np.ascontiguousarray(model.normals.T),
    )


@lru_cache(maxsize=1)
def _cores() -> int:
    return len(os.sched_getaffinity(0))


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix='fit_pose')


@compiled
def _solve_faces(
    first, last, uv, cov_uv, lens, problem, mean, prior_covariance, has_start, depth, results
):
    """Faces first to last - 1, into the results; T_cam_head holds the start if there is one."""
    C, size_sigma = mean.shape[1], problem.size_sigma
    points, few, surface = problem.points, problem.coarse, problem.surface
    work, few_work = workspace(C, uv.shape[1], 0), workspace(C, few.xyz_head.shape[1], 0)
    none, with_depth = no_ranges(points), depth.z_mm.size + depth.z_m.size > 0
    T, c = np.empty((2, 3, 4)), np.empty((2, C))  # of a head of mean size, from each start
    information = np.empty((C, C))
    T_cam_head, shape, stops = results.T_cam_head, results.shape, results.stop
    for face in range(first, last):
        row = min(face, len(mean) - 1)
        prior, expected_size = Prior(mean[row], information), 1 + size_sigma * mean[row, 0]
        if not cholesky_inverse(prior_covariance[row], information):
            stops[face] = _SINGULAR
            _fail(results, face)
            continue
        measured = measure(uv[face], cov_uv[face], lens)
        count = count_measured(measured)
        if count < MIN_KEYPOINTS:
            stops[face] = _TOO_FEW_KEYPOINTS
            _fail(results, face)
            continue
        # The first round: fewer keypoints and a coarse tolerance, from one start or two, to choose
        # between them. Residuals that come from the mean shape count as inliers.
        coarse = every(problem.stride, measured)
        if has_start:
            for i in range(3):
                for j in range(4):
                    scale = 1 / expected_size if j == 3 else 1.0
                    T[0, i, j] = T[1, i, j] = scale * T_cam_head[face, i, j]
        else:
            solve_pnp(few.xyz_head, coarse, problem.sample_order, T)
        trace = 0.0
        for i in range(3):
            for j in range(3):
                trace += T[0, i, j] * T[1, i, j]
        share = _share(problem, count_measured(coarse))
        cost = Cost(problem.kernel, problem.kernel_scale, share)
        best, least = 0, np.inf
        for start in range(2 if trace < MAX_TRACE_APART else 1):
            T_start, c_start = T[start], c[start]
            for m in range(C):
                c_start[m] = mean[row, m]
            seen = coarse
            if problem.visibility:
                seen = weigh_visible(coarse, few.normals, T_start)
            scale = widened(T_start, c_start, seen, few, prior, cost, few_work)
            wide, tolerances = Cost(problem.kernel, scale, share), problem.coarse_tolerances
            minimise(T_start, c_start, seen, few, none, prior, wide, tolerances, 1.0, few_work)
            # All starts are compared by the same cost.
            value = evaluate(T_start, c_start, coarse, few, none, prior, cost, few_work)
            if value < least:
                best, least = start, value
        T_best, c_best = T[best], c[best]
        if problem.visibility:
            measured = weigh_visible(measured, points.normals, T_best)
        ranges, work_all = none, work
        if with_depth:
            read, found = read_ranges(
                *(T_best, c_best, expected_size, size_sigma, surface, depth),
                *(problem.range_noise, results.depth[face]),
            )
            if found > 0:
                ranges, work_all = read, workspace(C, uv.shape[1], len(read.rho))
                c_best[0] = (found - 1) / max(size_sigma, _KNOWN_SIZE)
                unexpected = (c_best[0] - mean[row, 0]) ** 2 / prior_covariance[row, 0, 0]
                _weaken_size(unexpected, information)
        cost = Cost(problem.kernel, problem.kernel_scale, _share(problem, count))
        tolerances, beta = problem.tolerances, problem.beta
        descent = minimise(
            T_best, c_best, measured, points, ranges, prior, cost, tolerances, beta, work_all
        )
        alpha = max(descent.alpha, problem.alpha)
        beta = min(max(descent.beta, MIN_RELATIVE_BETA * beta), 1.0)
        H = work_all.H
        if len(ranges.rho) > 0:
            # Scaled so that alpha and beta of the keypoints hold for the sum.
            range_alpha, range_beta = range_efficiency(work_all.ranges)
            range_beta = min(max(range_beta, MIN_RELATIVE_BETA), 1.0)
            factor = range_beta**2 / max(range_alpha, problem.range_alpha) * alpha / beta**2
            for i in range(len(H)):
                for j in range(len(H)):
                    H[i, j] += (factor - 1) * work_all.ranges.H[i, j]
        posterior = PoseCovariance(
            results.covariance,
            results.covariance_given_shape,
            results.pose_of_shape,
            results.shape_covariance,
        )
        size = 1 + size_sigma * c_best[0]
        regular = posterior_covariance(
            H, information, alpha, beta, T_best, size, size_sigma, posterior, face
        )
        total = 0.0
        for i in range(3):
            for j in range(4):
                total += T_best[i, j]
                T_cam_head[face, i, j] = (size if j == 3 else 1.0) * T_best[i, j]
            T_cam_head[face, 3, i] = 0.0
        T_cam_head[face, 3, 3] = 1.0
        for m in range(C):
            total += c_best[m]
            shape[face, m] = c_best[m]
        results.cost[face], results.iterations[face] = descent.cost, descent.iterations
        stops[face] = descent.stop
        if not (regular and abs(total) < np.inf):
            stops[face] = _SINGULAR
            _fail(results, face)
        elif T_best[2, 3] <= 0 and not lens.fisheye:
            stops[face] = _NOT_IN_FRONT
            _fail(results, face)


@inner
def _share(problem, count):
    """See `Cost.information`."""
    return min(problem.independent_keypoints / max(count, 1), 1.0)


@inner
def _weaken_size(unexpected, information):
    """Weigh the prior of a size, so many squared standard deviations off, as Cauchy's does.

    The normal prior of adults would pull a child's size, and the keypoints with it.
    """
    root = math.sqrt(min(2 / (1 + unexpected), 1.0))
    for m in range(len(information)):
        information[0, m] *= root
        information[m, 0] *= root


@inner
def _fail(results, face):
    T, pose_of_shape, shape = results.T_cam_head, results.pose_of_shape, results.shape
    pose, given_shape = results.covariance, results.covariance_given_shape
    of_shape = results.shape_covariance
    for i in range(4):
        for j in range(4):
            T[face, i, j] = 1.0 if i == j else 0.0
    for i in range(6):
        for j in range(6):
            pose[face, i, j] = given_shape[face, i, j] = np.inf
        for m in range(shape.shape[1]):
            pose_of_shape[face, i, m] = 0.0
    for m in range(shape.shape[1]):
        shape[face, m] = 0.0
        for n in range(shape.shape[1]):
            of_shape[face, m, n] = np.inf
