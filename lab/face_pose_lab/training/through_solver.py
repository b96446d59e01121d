"""Training through the optimiser: how the fitted pose follows the keypoints."""

from __future__ import annotations

import math

import torch
from face_pose_ros.pose.refine import PoseOptions, default_shape_prior, fit_pose
from face_pose_ros.pose.residuals import Estimate, MapProblem
from torch import Tensor

from face_pose_lab.torch_geometry import robust, so3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.torch_types import Keypoints
from face_pose_ros.pose.face_model import FaceModel

OPTIONS = PoseOptions(visibility=False, independent_keypoints=20.0)
_ROBUST_RAD = math.radians(10)


def rotation_loss(
    keypoints: Keypoints, T_true: Tensor, model: FaceModel, camera: Camera
) -> Tensor:
    """Mean robust squared angle, in units of 10 deg, between fitted and true rotations.

    Args:
        keypoints: N heads, carrying a graph.
        T_true: (N, 4, 4) float64; the solver starts there, so the nearest minimum counts.
        model: Shape of the heads.
        camera: In whose pixels the keypoints are, float64.
    """
    R, failed = fitted_rotations(keypoints, T_true, model, camera)
    omega = so3.log(T_true[:, :3, :3] @ R.mT)
    s = (omega / _ROBUST_RAD).square().sum(-1)
    s = torch.where(failed, 0.0, 2 * ((1 + s).sqrt() - 1))
    return s.sum() / (~failed).sum().clamp_min(1)


def fitted_rotations(
    keypoints: Keypoints, T_start: Tensor, model: FaceModel, camera: Camera
) -> tuple[Tensor, Tensor]:
    """Rotations (N, 3, 3) that follow the keypoints, and which fits failed (N,).

    By the implicit function theorem, with Gauss and Newton's Hessian instead of the exact one of
    `pose.implicit`: it is positive definite, far cheaper, and the same where residuals are small.
    """
    with torch.no_grad():
        fit = fit_pose(keypoints, model, camera, OPTIONS, T_start).poses
    prior = default_shape_prior(model, OPTIONS)
    x = Estimate(fit.T_cam_head[:, :3, :3], fit.T_cam_head[:, :3, 3], fit.shape[:, 1:])
    kernel = robust.KERNELS[OPTIONS.kernel]
    problem = MapProblem.build(
        keypoints, model, camera, prior, None, OPTIONS.independent_keypoints, kernel,
        OPTIONS.kernel_scale,
    )  # fmt: skip
    system = problem.normal_equations(x)
    H = OPTIONS.efficiency.beta * system.H + system.prior
    safe = torch.where(fit.failed[:, None, None], torch.eye(H.shape[-1]).to(H), H).detach()
    step = -torch.linalg.solve(safe, system.g)
    # At the minimum g is 0: the step moves nothing and carries the derivative. What is left of g
    # where the solver stopped early must not move it either.
    step = torch.where(fit.failed[:, None], 0.0, step - step.detach())
    return x.step(step).R, fit.failed
