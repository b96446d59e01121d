"""Maximum a posteriori pose and shape of N faces from their keypoints."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor

from face_pose_ros.geometry import robust, se3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose import compiled
from face_pose_ros.pose.covariance import posterior_covariance
from face_pose_ros.pose.face_model import (
    INTERPUPILLARY_SIGMA_M,
    MEAN_INTERPUPILLARY_M,
    FaceModel,
)
from face_pose_ros.pose.implicit import attach_gradient
from face_pose_ros.pose.levenberg_marquardt import (
    COARSE_COST_TOLERANCE,
    MIN_KEYPOINTS,
    StopReason,
    minimise,
)
from face_pose_ros.pose.pnp import PoseStart, solve_pnp_rays
from face_pose_ros.pose.residuals import Estimate, MapProblem, PosePrior, ShapePrior
from face_pose_ros.types import HeadPoses, Keypoints


@dataclass(frozen=True)
class PoseOptions:
    """Options of `fit_pose`."""

    kernel: str = 'geman_mcclure'  # a key of geometry.robust.KERNELS
    kernel_scale: float = 3.0  # residual at which a keypoint starts to lose weight [sigma]
    visibility: bool = True  # keypoints on the far side of the head lose weight
    max_iterations: int = 30
    step_tolerance: float = 1e-6  # see `levenberg_marquardt.minimise`
    cost_tolerance: float = 1e-4
    # How many independent keypoints the dense ones are worth: their errors move together, so the
    # information of all of them is scaled down to that of this many.
    independent_keypoints: float = 6.0
    interpupillary_mm: float = 1e3 * MEAN_INTERPUPILLARY_M  # a person's own, if it is known
    interpupillary_sigma_mm: float = 1e3 * INTERPUPILLARY_SIGMA_M

    def __post_init__(self) -> None:
        if self.kernel not in robust.KERNELS:
            raise ValueError(f"kernel '{self.kernel}' is not one of {', '.join(robust.KERNELS)}")
        for field in fields(self):
            if field.type in ('int', 'float') and not getattr(self, field.name) > 0:
                raise ValueError(f'{field.name} must be positive, got {getattr(self, field.name)}')

    @property
    def efficiency(self) -> robust.Efficiency:
        """Of the kernel, for the covariance."""
        return robust.efficiency(robust.KERNELS[self.kernel], self.kernel_scale)


@dataclass(frozen=True)
class PoseResult:
    """Poses of N faces and how the optimiser got there."""

    poses: HeadPoses
    cost: Tensor  # (N,) at the end: negative log posterior up to a constant
    iterations: Tensor  # (N,) int64, steps tried with all keypoints
    stop: Tensor  # (N,) int64, a StopReason each


@lru_cache(maxsize=4)
def default_shape_prior(model: FaceModel, options: PoseOptions) -> ShapePrior:
    """The prior of anybody's shape: N(0, 1) but for the size, of which the pupils may tell."""
    mean = model.xyz_head.new_zeros(1, len(model.shape_names))
    information = torch.ones_like(mean)
    if model.size_sigma:
        excess_m = 1e-3 * options.interpupillary_mm - MEAN_INTERPUPILLARY_M
        mean[:, 0] = model.size_per_m * excess_m / model.size_sigma
        sigma = math.hypot(
            model.size_per_m * 1e-3 * options.interpupillary_sigma_mm,
            model.size_sigma_given_pupils,
        )
        information[:, 0] = (model.size_sigma / sigma) ** 2
    return ShapePrior(mean, torch.diag_embed(information))


def fit_pose(
    keypoints: Keypoints,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions | None = None,
    T_init: Tensor | None = None,
    shape_prior: ShapePrior | None = None,
    pose_prior: PosePrior | None = None,
) -> PoseResult:
    """Pose and shape of each face that best explain its keypoints through the camera's lens.

    Minimises 1/2 sum_i rho(|r_i|^2) + 1/2 |c - c0|^2 (+ 1/2 |pose - pose0|^2) over rotation,
    translation and shape coefficients, from a closed form and without memory, in two rounds: the
    second one knows which keypoints the head hides from the camera.

    A face that can't be solved (see `StopReason`) is marked failed, has an identity pose and an
    infinite covariance, and leaves the other faces as they would be without it.

    On a CPU the compiled twin of this solver does the work. Where a gradient is asked for, pose
    and shape carry that of the minimum with respect to uv and cov_uv (see `attach_gradient`);
    the covariance carries none, and the keypoints' visibility counts as constant.

    Args:
        keypoints: N faces, the first K of their keypoints belong to the model's points.
        model: Face model with K points and C modes.
        camera: The camera in whose pixels the keypoints are.
        options: See `PoseOptions`.
        T_init: (N, 4, 4) start poses T_cam_head; None starts from the closed form.
        shape_prior: What is known of the N shapes already; None is `default_shape_prior`.
        pose_prior: What is known of the N poses already.
    """
    options = options or PoseOptions()
    camera = camera.to(model.xyz_head.device, torch.float64)
    prior = shape_prior or default_shape_prior(model, options)
    needs_gradient = torch.is_grad_enabled() and (
        keypoints.uv.requires_grad or keypoints.cov_uv.requires_grad
    )
    plain = pose_prior is None and not needs_gradient
    if plain and model.xyz_head.device.type == 'cpu':
        return PoseResult(*compiled.fit_pose(keypoints, model, camera, options, T_init, prior))
    return fit_pose_torch(keypoints, model, camera, options, T_init, prior, pose_prior)


def fit_pose_torch(
    keypoints: Keypoints,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions,
    T_init: Tensor | None,
    shape_prior: ShapePrior,
    pose_prior: PosePrior | None = None,
) -> PoseResult:
    """`fit_pose` in torch: on any device, differentiable; for training, not for speed.

    On CUDA it is some 15 000 kernels for any number of faces, and its closed form waits for them.
    """
    size = 1 + model.size_sigma * shape_prior.mean[:, :1]
    problem = MapProblem.build(
        keypoints,
        model,
        camera,
        shape_prior,
        None if pose_prior is None else pose_prior.of_mean_size(size),
        options.independent_keypoints,
        robust.KERNELS[options.kernel],
        options.kernel_scale,
    )
    enough = problem.measured.sum(-1) >= MIN_KEYPOINTS
    coarse = problem.coarse()
    x = _roughly(coarse, _starts(coarse, T_init, size), options)
    if options.visibility:
        problem = problem.weigh_visible(x.R)
    descent = minimise(
        problem,
        x,
        options.max_iterations,
        options.step_tolerance,
        options.cost_tolerance,
        options.efficiency.beta,
    )
    x = descent.x
    covariance = posterior_covariance(descent.system, options.efficiency)
    covariance = covariance.with_size(x.t, model.size_sigma, shape_prior)
    if problem.rays.requires_grad or problem.A.requires_grad:
        x = attach_gradient(problem, x)

    stop = torch.where(enough, descent.stop, StopReason.TOO_FEW_KEYPOINTS)
    in_front = x.t[:, 2] > 0
    if camera.distortion_model == 'equidistant':
        in_front = torch.ones_like(in_front)  # a fisheye may see behind its own plane
    stop = torch.where(enough & ~in_front, StopReason.NOT_IN_FRONT, stop)
    finite = x.R.isfinite().all((-1, -2)) & x.t.isfinite().all(-1) & x.modes.isfinite().all(-1)
    stop = torch.where(enough & ~(finite & covariance.regular), StopReason.SINGULAR, stop)
    failed = stop >= StopReason.TOO_FEW_KEYPOINTS
    of_size = shape_prior.mean[:, :1].expand(len(x.t), 1)
    eye = torch.eye(4, dtype=x.t.dtype, device=x.t.device)
    poses = HeadPoses(
        T_cam_head=_unless(failed, se3.from_rt(x.R, size * x.t), eye),
        covariance=_unless(failed, covariance.covariance, torch.inf),
        covariance_given_shape=_unless(failed, covariance.covariance_given_shape, torch.inf),
        pose_of_shape=_unless(failed, covariance.pose_of_shape, 0.0),
        shape=_unless(failed, torch.cat([of_size, x.modes], -1), 0.0),
        shape_covariance=_unless(failed, covariance.shape_covariance, torch.inf),
        failed=failed,
    )
    return PoseResult(poses, descent.system.cost, descent.iterations, stop)


def _starts(problem: MapProblem, T_init: Tensor | None, size: Tensor) -> PoseStart:
    """S starts of each face, of mean size."""
    if T_init is not None:
        T_init = T_init.to(problem.rays)[:, None]
        return PoseStart(T_init[..., :3, :3], T_init[..., :3, 3] / size[:, None])
    with torch.no_grad():
        # What a radian across each ray counts for.
        weight = 0.5 * (problem.A * problem.A).sum((-1, -2))
        return solve_pnp_rays(problem.model.xyz_head, problem.rays, weight)


def _roughly(problem: MapProblem, starts: PoseStart, options: PoseOptions) -> Estimate:
    """The better of the minima below the starts, found with few keypoints and no precision.

    It tells well enough which side of the head is seen, and has no residuals that come from the
    mean shape and look like an outlier's.
    """
    faces, count = starts.R_cam_head.shape[:2]
    repeated = problem.repeat(count)
    x = Estimate(
        starts.R_cam_head.flatten(0, 1),
        starts.t_cam_head.flatten(0, 1),
        repeated.modes_mean.expand(faces * count, -1),
    )
    tried = repeated.weigh_visible(x.R) if options.visibility else repeated
    descent = minimise(
        tried.widen_kernel(x),
        x,
        options.max_iterations,
        options.step_tolerance,
        COARSE_COST_TOLERANCE,
        curvature=1.0,
    )
    # All of them are compared by the same cost.
    cost = repeated.normal_equations(descent.x).cost.view(faces, count)
    best = torch.arange(faces, device=cost.device) * count + cost.nan_to_num(torch.inf).argmin(-1)
    return Estimate(*(field[best] for field in descent.x))


def _unless(failed: Tensor, value: Tensor, otherwise: Tensor | float) -> Tensor:
    return torch.where(failed.view(-1, *[1] * (value.ndim - 1)), otherwise, value)
