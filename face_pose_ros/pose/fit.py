# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Maximum a posteriori pose and shape of N faces from their keypoints."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.options import KERNELS, DepthOptions, PoseOptions
from face_pose_ros.pose.face_model import MEAN_INTERPUPILLARY_M, FaceModel
from face_pose_ros.pose.ranges import surface_of
from face_pose_ros.pose.robust import efficiency
from face_pose_ros.results import HeadPoses, Keypoints

Array = NDArray[np.float64]

# Of the first round, which only decides between the starts.
COARSE_COST_TOLERANCE = 1e-2
SAMPLES = 23  # of six keypoints: with 20 % outliers all are spoilt once in 1000 faces


class StopReason(IntEnum):
    """Why the optimiser stopped. From TOO_FEW_KEYPOINTS on, the face has failed."""

    CONVERGED = 0  # the step or the decrease of the cost fell below its tolerance
    NO_DESCENT = 1  # damping at its limit: no step lowers the cost any more
    MAX_ITERATIONS = 2
    TOO_FEW_KEYPOINTS = 3  # fewer than six finite keypoints with a direction
    NOT_IN_FRONT = 4  # the head came out behind the camera
    SINGULAR = 5  # the keypoints do not fix the pose, or a number overflowed


@dataclass(eq=False)
class ShapePrior:
    """Normal distribution of the shape coefficients of N faces, or of any face (N = 1)."""

    mean: Array  # (N, C) prior standard deviations of the model
    covariance: Array  # (N, C, C) positive definite


@dataclass(eq=False)
class PoseResult:
    """Poses of N faces and how the optimiser got there."""

    poses: HeadPoses
    cost: Array  # (N,) at the end: negative log posterior up to a constant
    iterations: NDArray[np.int64]  # (N,) steps tried with all keypoints
    stop: NDArray[np.int64]  # (N,) a StopReason each


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
    coefficients (see src/lm.hpp), from a closed form (src/pnp.hpp) and without memory, in two
    rounds: the second one down-weights the keypoints that the head of the first one hides from the
    camera, and has the ranges of a depth image, with which the size is estimated too.

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
    *of_poses, cost, iterations, stop = _problem(
        model, options, depth_options or DepthOptions()
    ).solve(
        keypoints.uv,
        keypoints.cov_uv,
        camera.lens,
        prior.mean,
        prior.covariance,
        T_init,
        depth.view if depth else None,
        threads or _cores(),
    )
    return PoseResult(HeadPoses(*of_poses), cost, iterations, stop)


def coarse_stride(count: int) -> int:
    """Every how many-th of `count` keypoints the first round uses."""
    return 4 if count >= 200 else 1


def sample_order(count: int) -> NDArray[np.int64]:
    """(SAMPLES, count) order in which each sample of the closed form prefers `count` keypoints.

    One fixed table of random ranks serves every face, so that a face's samples depend neither on
    its neighbours in the batch nor on the calls before.
    """
    ranks = np.random.RandomState(0).randint(2**24, size=(SAMPLES, count), dtype=np.uint32)
    return np.argsort(-ranks.astype(np.int64), axis=1, kind='stable')


@lru_cache(maxsize=8)
def _problem(model: FaceModel, options: PoseOptions, depth: DepthOptions) -> _core.PoseProblem:
    stride = coarse_stride(len(model.xyz_head))
    coarse = model.every(stride)
    alpha, beta = efficiency(options.kernel, options.kernel_scale)
    of_ranges = efficiency(KERNELS[_core.RANGE_KERNEL], _core.RANGE_KERNEL_SCALE, 1)
    return _core.PoseProblem(
        points=_points(model),
        coarse=_points(coarse),
        surface=_points(surface_of(model)),
        stride=stride,
        sample_order=sample_order(len(coarse.xyz_head)),
        size_sigma=model.size_sigma,
        kernel=KERNELS.index(options.kernel),
        kernel_scale=options.kernel_scale,
        visibility=options.visibility,
        independent_keypoints=options.independent_keypoints,
        max_iterations=options.max_iterations,
        step_tolerance=options.step_tolerance,
        cost_tolerance=options.cost_tolerance,
        coarse_cost_tolerance=COARSE_COST_TOLERANCE,
        alpha=alpha,
        beta=beta,
        range_alpha=of_ranges.alpha,
        noise_per_m=depth.noise_per_m,
        bias_per_m=depth.bias_per_m,
    )


def _points(model: FaceModel) -> tuple[Array, Array, Array]:
    """Points (3, K), modes (M, 3, K) and normals (3, K)."""
    columns = model.xyz_head.T, model.modes.transpose(0, 2, 1), model.normals.T
    points, modes, normals = (np.ascontiguousarray(a, dtype=np.float64) for a in columns)
    return points, modes, normals


@lru_cache(maxsize=1)
def _cores() -> int:
    return len(os.sched_getaffinity(0))
