"""Whitened reprojection residuals of N faces and the normal equations they give.

The pose is perturbed on the left, R <- exp(omega) R and t <- t + dt, and the unknowns are ordered
(dt, omega): the order, the axes and the frame of a ROS covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.geometry import robust, so3
from face_pose_ros.geometry.camera import Camera

# A point the camera can't see at a trial pose costs as much as one this many standard deviations
# off: the number of terms in the cost never changes, so costs stay comparable.
_INVALID_SIGMAS = 1e3


class NormalEquations(NamedTuple):
    """Gauss-Newton system at one pose of each face."""

    cost: Tensor  # (N,) half the sum of the robust costs, in squared standard deviations
    H: Tensor  # (N, 6, 6)
    g: Tensor  # (N, 6) gradient of the cost
    chi_sq: Tensor  # (N,) robustly weighted sum of squared whitened residuals
    weight_sum: Tensor  # (N,) sum of the robust weights over the coordinates


@dataclass(frozen=True)
class ReprojectionProblem:
    """Measured keypoints of N faces against 3-D points, through one camera."""

    xyz_head: Tensor  # (K, 3) or (N, K, 3) m
    uv: Tensor  # (N, K, 2) px
    inv_sigma: Tensor  # (N, K) 1/px, 0 leaves the keypoint out
    camera: Camera
    kernel: robust.Kernel
    kernel_scale: float  # standard deviations

    def whitened_residuals(self, R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(Predicted - measured) / sigma, (N, K, 2), and its Jacobian, (N, K, 2, 6)."""
        Rx = self.xyz_head @ R.mT
        uv, valid, J_uv_xyz = self.camera.project(Rx + t[:, None], jacobian=True)
        assert J_uv_xyz is not None
        seen = torch.where(valid, self.inv_sigma, torch.zeros_like(self.inv_sigma))[..., None]
        residual = (uv - self.uv) * seen
        missing = (~valid & (self.inv_sigma > 0))[..., None]
        residual = torch.where(missing, _INVALID_SIGMAS, residual)
        J_t = J_uv_xyz * seen[..., None]
        # d(exp(omega) R x) / d omega = -hat(R x): each row of J_t times it is a cross product.
        J_omega = torch.linalg.cross(Rx[..., None, :].expand_as(J_t), J_t)
        return residual, torch.cat([J_t, J_omega], -1)

    def normal_equations(self, R: Tensor, t: Tensor) -> NormalEquations:
        """Robustly weighted Gauss-Newton system at the poses (N, 3, 3), (N, 3)."""
        residual, J = self.whitened_residuals(R, t)
        s = (residual * residual).sum(-1)
        rho, weight = self.kernel(s, self.kernel_scale)
        measured = self.inv_sigma > 0
        weight = torch.where(measured, weight, torch.zeros_like(weight))
        Jw = (J * weight[..., None, None]).flatten(1, 2)
        J, residual = J.flatten(1, 2), residual.flatten(1, 2)
        return NormalEquations(
            cost=0.5 * rho.sum(-1),
            H=Jw.mT @ J,
            g=(Jw.mT @ residual[..., None]).squeeze(-1),
            chi_sq=(weight * s).sum(-1),
            weight_sum=2 * weight.sum(-1),
        )

    def step(self, R: Tensor, t: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The poses moved by delta = (dt [m], omega [rad]), (N, 6)."""
        return so3.exp(delta[:, 3:]) @ R, t + delta[:, :3]
