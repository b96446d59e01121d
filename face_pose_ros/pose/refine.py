"""Levenberg-Marquardt over the pose of every face at once, with accept and reject per face."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from face_pose_ros.geometry import robust, se3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.pnp import PoseStart, solve_pnp_rays
from face_pose_ros.pose.residuals import NormalEquations, ReprojectionProblem
from face_pose_ros.types import HeadPoses, Keypoints

MIN_KEYPOINTS = 6  # what the closed-form start needs


class StopReason(IntEnum):
    """Why the optimiser left a face alone. From TOO_FEW_KEYPOINTS on, the face has failed."""

    CONVERGED = 0  # the step or the decrease of the cost fell below its tolerance
    NO_DESCENT = 1  # damping at its limit: no step lowers the cost any more
    MAX_ITERATIONS = 2
    TOO_FEW_KEYPOINTS = 3  # fewer than MIN_KEYPOINTS finite keypoints with a direction
    NOT_IN_FRONT = 4  # the head came out behind the camera
    SINGULAR = 5  # the keypoints do not fix the pose, or a number overflowed


@dataclass(frozen=True)
class PoseOptions:
    """Options of `fit_pose`."""

    kernel: str = 'geman_mcclure'  # a key of geometry.robust.KERNELS
    kernel_scale: float = 3.0  # residual at which a keypoint starts to lose weight [sigma]
    max_iterations: int = 30
    step_tolerance: float = 1e-6  # stop: rotation step [rad] and translation step [of distance]
    cost_tolerance: float = 1e-5  # stop: decrease of the cost, relative; or
    # How many independent keypoints the dense ones are worth: their errors move together, so the
    # information of all of them is scaled down to that of this many.
    independent_keypoints: float = 12.0
    face_scale_sigma: float = 0.055  # relative; adults' interpupillary distance is 63 +- 3.5 mm

    def __post_init__(self) -> None:
        if self.kernel not in robust.KERNELS:
            raise ValueError(f"kernel '{self.kernel}' is not one of {', '.join(robust.KERNELS)}")
        for name in (
            'kernel_scale',
            'max_iterations',
            'step_tolerance',
            'cost_tolerance',
            'independent_keypoints',
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
        if self.face_scale_sigma < 0:
            raise ValueError(f'face_scale_sigma must be >= 0, got {self.face_scale_sigma}')


@dataclass(frozen=True)
class PoseResult:
    """Poses of N faces and how the optimiser got there."""

    poses: HeadPoses
    cost_initial: Tensor  # (N,) at the start; squared standard deviations
    cost: Tensor  # (N,) at the end
    iterations: Tensor  # (N,) int64, steps tried until the face stopped
    stop: Tensor  # (N,) int64, a StopReason each


_DAMPING_START, _DAMPING_MIN, _DAMPING_MAX = 1e-4, 1e-12, 1e8


def fit_pose(
    keypoints: Keypoints,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions | None = None,
    T_init: Tensor | None = None,
) -> PoseResult:
    """Pose of each face that best explains its keypoints through the camera's K and distortion.

    A face that can't be solved (see `StopReason`) is marked failed, has an identity pose and an
    infinite covariance, and leaves the other faces as they would be without it.

    Args:
        keypoints: N faces, the first K of their keypoints belong to the model's points.
        model: Face model with K points.
        camera: The camera in whose pixels the keypoints are.
        options: See `PoseOptions`.
        T_init: (N, 4, 4) start poses T_cam_head; None starts from the closed form.
    """
    options = options or PoseOptions()
    xyz_head = model.xyz_head
    camera = camera.to(xyz_head.device, torch.float64)
    uv = keypoints.uv[:, : len(xyz_head)].to(xyz_head)
    sigma = keypoints.sigma_px[:, : len(xyz_head)].to(xyz_head)

    usable = uv.isfinite().all(-1) & sigma.isfinite() & (sigma > 0)
    uv = torch.where(usable[..., None], uv, camera.c)
    rays, has_ray = camera.unproject(uv)
    usable &= has_ray
    enough = usable.sum(-1) >= MIN_KEYPOINTS
    # A hopeless face keeps unit weights: its numbers stay finite and are thrown away at the end.
    usable |= ~enough[:, None]
    inv_sigma = torch.where(usable, 1 / torch.where(sigma > 0, sigma, 1.0).nan_to_num(1.0), 0.0)

    if T_init is None:
        start = solve_pnp_rays(xyz_head, rays, inv_sigma**2)
    else:
        T_init = T_init.to(xyz_head)
        start = PoseStart(T_init[:, :3, :3], T_init[:, :3, 3])
    problem = ReprojectionProblem(
        xyz_head, uv, inv_sigma, camera, robust.KERNELS[options.kernel], options.kernel_scale
    )
    return _optimise(problem, start, enough, options)


def _optimise(
    problem: ReprojectionProblem, start: PoseStart, enough: Tensor, options: PoseOptions
) -> PoseResult:
    R, t = start
    system = problem.normal_equations(R, t)
    cost_initial = system.cost
    damping = torch.full_like(system.cost, _DAMPING_START)
    stop = torch.full_like(enough, StopReason.MAX_ITERATIONS, dtype=torch.int64)
    stop = torch.where(enough, stop, StopReason.TOO_FEW_KEYPOINTS)
    active = enough & system.cost.isfinite()
    iterations = torch.zeros_like(stop)

    for _ in range(options.max_iterations):
        # On a GPU this question would wait for the device; there the idle steps cost less.
        if R.device.type == 'cpu' and not active.any():
            break
        delta = _damped_step(system, damping)
        R_new, t_new = problem.step(R, t, delta)
        candidate = problem.normal_equations(R_new, t_new)
        accept = active & (candidate.cost <= system.cost)
        small_step = _is_small(delta, t, options.step_tolerance)
        small_gain = accept & (system.cost - candidate.cost < options.cost_tolerance * system.cost)
        converged = active & (small_step | small_gain)
        R = torch.where(accept[:, None, None], R_new, R)
        t = torch.where(accept[:, None], t_new, t)
        system = _select(accept, candidate, system)
        damping = torch.where(accept, damping * 0.1, damping * 10).clamp_min(_DAMPING_MIN)
        stuck = active & ~converged & (damping > _DAMPING_MAX)
        stop = torch.where(converged, StopReason.CONVERGED, stop)
        stop = torch.where(stuck, StopReason.NO_DESCENT, stop)
        iterations = iterations + active
        active = active & ~converged & ~stuck

    covariance, regular = _covariance(system, t, options)
    in_front = t[:, 2] > 0
    if problem.camera.distortion_model == 'equidistant':
        in_front = torch.ones_like(in_front)  # a fisheye may see behind its own plane
    stop = torch.where(enough & ~in_front, StopReason.NOT_IN_FRONT, stop)
    finite = R.isfinite().all((-1, -2)) & t.isfinite().all(-1) & regular
    stop = torch.where(enough & ~finite, StopReason.SINGULAR, stop)
    failed = stop >= StopReason.TOO_FEW_KEYPOINTS

    eye = torch.eye(4, dtype=R.dtype, device=R.device)
    poses = HeadPoses(
        T_cam_head=torch.where(failed[:, None, None], eye, se3.from_rt(R, t)),
        covariance=torch.where(
            failed[:, None, None], torch.inf * torch.ones_like(eye[0, 0]), covariance
        ),
        shape=R.new_zeros(len(R), 0),
        failed=failed,
    )
    return PoseResult(poses, cost_initial, system.cost, iterations, stop)


def _damped_step(system: NormalEquations, damping: Tensor) -> Tensor:
    """Solve (H + damping diag(H)) delta = -g for each face (Marquardt 1963)."""
    diagonal = system.H.diagonal(dim1=-2, dim2=-1)
    A = system.H + torch.diag_embed(damping[:, None] * diagonal + 1e-12)
    # cholesky_ex reports instead of raising: one singular face must not stop the others.
    L, info = torch.linalg.cholesky_ex(A)
    delta = torch.cholesky_solve(-system.g[..., None], L).squeeze(-1)
    return torch.where((info == 0)[:, None], delta, torch.zeros_like(delta))


def _is_small(delta: Tensor, t: Tensor, tolerance: float) -> Tensor:
    small_rotation = delta[:, 3:].norm(dim=-1) < tolerance
    return small_rotation & (delta[:, :3].norm(dim=-1) < tolerance * t.norm(dim=-1))


def _select(accept: Tensor, new: NormalEquations, old: NormalEquations) -> NormalEquations:
    return NormalEquations(
        *(
            torch.where(accept.view(-1, *[1] * (a.ndim - 1)), a, b)
            for a, b in zip(new, old, strict=True)
        )
    )


def _covariance(system: NormalEquations, t: Tensor, options: PoseOptions) -> tuple[Tensor, Tensor]:
    """Covariance (N, 6, 6) of (t, rotation) in the camera frame, and where it exists (N,).

    Inverse Hessian, times the a-posteriori variance factor where the fit is worse than sigma_px
    promised, times the redundancy of the dense keypoints, plus the unknown size of the face,
    which moves the head along its ray and changes nothing in the picture.
    """
    L, info = torch.linalg.cholesky_ex(system.H)
    eye = torch.eye(6, dtype=t.dtype, device=t.device).expand_as(system.H)
    covariance = torch.cholesky_solve(eye, L)
    freedom = (system.weight_sum - 6).clamp_min(1)
    factor = (system.chi_sq / freedom).clamp_min(1)
    redundancy = (0.5 * system.weight_sum / options.independent_keypoints).clamp_min(1)
    covariance = covariance * (factor * redundancy)[:, None, None]
    size = torch.zeros_like(covariance)
    size[:, :3, :3] = options.face_scale_sigma**2 * t[:, :, None] * t[:, None, :]
    covariance = covariance + size
    return covariance, (info == 0) & covariance.isfinite().all((-1, -2))
