"""What the optimiser minimises: the posterior cost of N faces, its gradient and its Hessian.

A keypoint with pixel uv and covariance Sigma is a ray f with an uncertainty across it. With
J = d uv / d xyz of the whole lens at f and L^T L = Sigma^-1, a head point p in the camera frame
has the whitened residual

    r = A p / (f . p),   A = L J,

since p / (f . p) = f + delta with delta across f, A f = 0, and A delta = L d uv. Distortion is
in J exactly, to first order in the noise; the loop that minimises never sees the lens again, and
rays beyond 90 deg of a fisheye are like any other.

The pose is perturbed on the left, R <- exp(omega) R and t <- t + dt. The unknowns are ordered
(dt, omega, dc): the first six are in the order, axes and frame of a ROS covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.geometry import robust, se3, so3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.types import Keypoints

# A point further than 84 deg from its ray has no residual. It costs as much as one this many
# standard deviations off: the number of terms never changes, so costs stay comparable.
MIN_COS = 0.1
INVALID_SIGMAS = 1e3

TOLERATED_SPREAD = 2.0  # of the residuals, in sigma, before the kernel becomes wider

# Information of a keypoint on skin that is seen at the cosine c (1: face on, below 0: from
# behind), relative to a visible one: FLOOR + (1 - FLOOR) / (1 + exp(-(c - MIDDLE) / WIDTH)).
VISIBILITY_FLOOR = 0.05
VISIBILITY_MIDDLE = 0.1
VISIBILITY_WIDTH = 0.1


def coarse_stride(count: int) -> int:
    """Of `count` keypoints, every how many-th tells roughly where the head is."""
    return 4 if count >= 200 else 1


class Estimate(NamedTuple):
    """Values of all unknowns of N faces of mean size."""

    R: Tensor  # (N, 3, 3) R_cam_head
    t: Tensor  # (N, 3) m, t_cam_head over the face's size
    modes: Tensor  # (N, M) prior standard deviations

    def step(self, delta: Tensor) -> Estimate:
        """Moved by delta = (dt [m], omega [rad], dc), (N, 6 + M)."""
        dt, omega, dc = delta.tensor_split((3, 6), dim=-1)
        return Estimate(so3.exp(omega) @ self.R, self.t + dt, self.modes + dc)


class NormalEquations(NamedTuple):
    """Gauss-Newton system at one estimate of each face, D = 6 + M unknowns."""

    cost: Tensor  # (N,) negative log posterior up to a constant
    H: Tensor  # (N, D, D) of the keypoints alone, robustly weighted
    g: Tensor  # (N, D) gradient of the whole cost
    prior: Tensor  # (N, D, D) information of the priors
    alpha: Tensor  # (N,) see `robust.Efficiency`, as observed
    beta: Tensor  # (N,)


@dataclass(frozen=True)
class ShapePrior:
    """Normal distribution of the shape coefficients of N faces, or of any face (N = 1)."""

    mean: Tensor  # (N, C) prior standard deviations of the model
    information: Tensor  # (N, C, C), inverse of the covariance; the size is independent


@dataclass(frozen=True)
class PosePrior:
    """Normal distribution of the poses of N faces, for instance predicted from the last frame."""

    T_cam_head: Tensor  # (N, 4, 4) m
    covariance: Tensor  # (N, 6, 6) of (dt, omega) in the camera frame, positive definite

    def of_mean_size(self, size: Tensor) -> PosePrior:
        """The same for heads that are 1 / size (N or 1, 1) as large and as far away."""
        t = self.T_cam_head[:, :3, 3] / size
        scale = torch.cat([(1 / size).expand(len(t), 3), torch.ones_like(t)], -1)
        covariance = scale[:, :, None] * self.covariance * scale[:, None]
        return PosePrior(se3.from_rt(self.T_cam_head[:, :3, :3], t), covariance)


@dataclass(frozen=True)
class MapProblem:
    """Measured keypoints of N faces against a deformable shape of mean size.

    The size scales face and translation together and leaves the picture as it is, so it is no
    unknown here: `refine` scales the answer.
    """

    model: FaceModel
    rays: Tensor  # (N, K, 3) unit
    A: Tensor  # (N, K, 2, 3) whitened residual per unit of deviation across the ray
    measured: Tensor  # (N, K) bool
    independent_keypoints: float  # what all keypoints together are worth, see `information`
    modes_mean: Tensor  # (N or 1, M)
    modes_information: Tensor  # (N or 1, M, M)
    pose_prior: PosePrior | None
    kernel: robust.Kernel
    kernel_scale: Tensor  # (N, 1) standard deviations

    @classmethod
    def build(
        cls,
        keypoints: Keypoints,
        model: FaceModel,
        camera: Camera,
        shape_prior: ShapePrior,
        pose_prior: PosePrior | None,
        independent_keypoints: float,
        kernel: robust.Kernel,
        kernel_scale: float,
    ) -> MapProblem:
        """Rays and whitening of the keypoints; one without a finite ray is not measured."""
        count = len(model.xyz_head)
        uv = keypoints.uv[:, :count].to(model.xyz_head)
        cov_uv = keypoints.cov_uv[:, :count].to(model.xyz_head)
        usable = uv.isfinite().all(-1)
        rays, has_ray = camera.unproject(
            torch.where(usable[..., None], uv, camera.c[..., None, :])
        )
        L, usable_covariance = _whitening(cov_uv)
        measured = usable & has_ray & usable_covariance
        J = camera.project(rays, jacobian=True).J_uv_xyz
        assert J is not None
        A = torch.where(measured[..., None, None], L @ J, 0.0)
        return cls(
            model=model,
            rays=rays,
            A=A,
            measured=measured,
            independent_keypoints=independent_keypoints,
            modes_mean=shape_prior.mean[:, 1:],
            modes_information=shape_prior.information[:, 1:, 1:],
            pose_prior=pose_prior,
            kernel=kernel,
            kernel_scale=kernel_scale * torch.ones_like(rays[:, :1, 0]),
        )

    @property
    def information(self) -> Tensor:
        """(N,) factor by which the keypoints count less, because their errors move together."""
        count = self.measured.sum(-1).clamp_min(1).to(self.rays)
        return (self.independent_keypoints / count).clamp_max(1.0)

    def coarse(self) -> MapProblem:
        """The same with fewer keypoints, where there are many."""
        stride = coarse_stride(self.rays.shape[1])
        return replace(
            self,
            model=self.model.every(stride),
            rays=self.rays[:, ::stride],
            A=self.A[:, ::stride],
            measured=self.measured[:, ::stride],
        )

    def repeat(self, count: int) -> MapProblem:
        """Every face `count` times, one after the other."""

        def repeated(x: Tensor) -> Tensor:
            return x if len(x) == 1 else x.repeat_interleave(count, dim=0)

        prior = self.pose_prior
        return replace(
            self,
            rays=self.rays.repeat_interleave(count, dim=0),
            A=self.A.repeat_interleave(count, dim=0),
            measured=self.measured.repeat_interleave(count, dim=0),
            modes_mean=repeated(self.modes_mean),
            modes_information=repeated(self.modes_information),
            kernel_scale=self.kernel_scale.repeat_interleave(count, dim=0),
            pose_prior=prior
            and PosePrior(
                prior.T_cam_head.repeat_interleave(count, dim=0),
                prior.covariance.repeat_interleave(count, dim=0),
            ),
        )

    def weigh_visible(self, R: Tensor) -> MapProblem:
        """The same with keypoints on the far side of heads at R (N, 3, 3) made uncertain."""
        cos = -(self.rays.detach() * (self.model.normals @ R.mT)).sum(-1)
        seen = torch.sigmoid((cos - VISIBILITY_MIDDLE) / VISIBILITY_WIDTH)
        information = VISIBILITY_FLOOR + (1 - VISIBILITY_FLOOR) * seen
        return replace(self, A=self.A * information.sqrt()[..., None, None])

    def widen_kernel(self, x: Estimate) -> MapProblem:
        """The same with a wider kernel, if the residuals at x are far larger than their sigma.

        The mean shape fits nobody, and a kernel made for noise would call a long chin an outlier.
        """
        with torch.no_grad():
            residual, _ = self.whitened_residuals(x)
        s = (residual * residual).sum(-1).masked_fill(~self.measured, torch.nan)
        spread = (s.nanmedian(dim=-1, keepdim=True).values / robust.NORMAL_MEDIAN).sqrt()
        wider = (spread.nan_to_num(1.0) / TOLERATED_SPREAD).clamp_min(1)
        return replace(self, kernel_scale=self.kernel_scale * wider)

    def detach(self) -> MapProblem:
        """The same without a graph."""
        return replace(self, rays=self.rays.detach(), A=self.A.detach())

    def whitened_residuals(self, x: Estimate) -> tuple[Tensor, Tensor]:
        """Residuals (N, K, 2) and their Jacobian (N, K, 2, D)."""
        xyz_head = self.model.xyz_head + torch.einsum('nm,mkx->nkx', x.modes, self.model.modes)
        Rx = xyz_head @ x.R.mT
        p = Rx + x.t[:, None]
        depth = (self.rays * p).sum(-1)
        valid = depth > MIN_COS * p.norm(dim=-1)
        inv_depth = torch.where(valid, 1 / torch.where(valid, depth, 1.0), 0.0)
        residual = (self.A @ p[..., None]).squeeze(-1) * inv_depth[..., None]
        J_t = (self.A - residual[..., None] * self.rays[..., None, :]) * inv_depth[..., None, None]
        # d(exp(omega) R x) / d omega = -hat(R x): each row of J_t times it is a cross product.
        J_omega = torch.linalg.cross(Rx[..., None, :].expand_as(J_t), J_t)
        J_modes = torch.einsum('nkab,nbd,ckd->nkac', J_t, x.R, self.model.modes)
        missing = (~valid & self.measured)[..., None]
        residual = torch.where(missing, INVALID_SIGMAS, residual)
        return residual, torch.cat([J_t, J_omega, J_modes], -1)

    def normal_equations(self, x: Estimate) -> NormalEquations:
        """Cost, gradient and robustly weighted Gauss-Newton Hessian."""
        residual, J = self.whitened_residuals(x)
        s = (residual * residual).sum(-1)
        rho, weight, slope = self.kernel(s, self.kernel_scale)
        weight = torch.where(self.measured, weight, 0.0)
        Jw = (J * weight[..., None, None]).flatten(1, 2)
        J, residual = J.flatten(1, 2), residual.flatten(1, 2)
        information = self.information[:, None]
        H = information[..., None] * (Jw.mT @ J)
        g = information * (Jw.mT @ residual[..., None]).squeeze(-1)
        cost = 0.5 * self.information * torch.where(self.measured, rho, 0.0).sum(-1)

        deviation = x.modes - self.modes_mean
        pull = (self.modes_information @ deviation[..., None]).squeeze(-1)
        cost = cost + 0.5 * (deviation * pull).sum(-1)
        prior = torch.zeros_like(H)
        prior[:, 6:, 6:] = self.modes_information
        g = torch.cat([g[:, :6], g[:, 6:] + pull], -1)
        if self.pose_prior is not None:
            of_pose = _pose_prior_terms(self.pose_prior, x)
            cost = cost + of_pose.cost
            prior[:, :6, :6] = of_pose.H
            g = torch.cat([g[:, :6] + of_pose.g, g[:, 6:]], -1)

        total = weight.sum(-1).clamp_min(1e-12)
        curvature = torch.where(self.measured, weight + s * slope, 0.0)
        redundancy = 2 * total / (2 * total - 6).clamp_min(1.0)  # six of the numbers are fitted
        return NormalEquations(
            cost=cost,
            H=H,
            g=g,
            prior=prior,
            alpha=0.5 * (weight * weight * s).sum(-1) / total * redundancy,
            beta=curvature.sum(-1) / total,
        )


class _PoseTerms(NamedTuple):
    cost: Tensor  # (N,)
    g: Tensor  # (N, 6)
    H: Tensor  # (N, 6, 6)


def _pose_prior_terms(prior: PosePrior, x: Estimate) -> _PoseTerms:
    phi = so3.log(x.R @ prior.T_cam_head[:, :3, :3].mT)
    error = torch.cat([x.t - prior.T_cam_head[:, :3, 3], phi], -1)
    J = torch.eye(6, dtype=phi.dtype, device=phi.device).repeat(len(phi), 1, 1)
    J[:, 3:, 3:] = so3.left_jacobian_inverse(phi)
    JtW = J.mT @ torch.linalg.inv(prior.covariance)
    g = (JtW @ error[..., None]).squeeze(-1)
    pull = torch.linalg.solve(prior.covariance, error)
    return _PoseTerms(0.5 * (error * pull).sum(-1), g, JtW @ J)


def _whitening(cov_uv: Tensor) -> tuple[Tensor, Tensor]:
    """L (..., 2, 2) with L^T L = cov_uv^-1, and where cov_uv is finite and positive definite."""
    uu, uv, vv = cov_uv[..., 0, 0], cov_uv[..., 0, 1], cov_uv[..., 1, 1]
    determinant = uu * vv - uv * uv
    usable = (uu > 0) & (determinant > 0) & uu.isfinite() & vv.isfinite()
    uu = torch.where(usable, uu, 1.0)
    uv = torch.where(usable, uv, 0.0)
    root = torch.where(usable, determinant, 1.0).sqrt()
    a = uu.sqrt()
    # The inverse of the Cholesky factor [[a, 0], [uv / a, root / a]].
    rows = [1 / a, torch.zeros_like(a), -uv / (a * root), a / root]
    return torch.stack(rows, -1).unflatten(-1, (2, 2)), usable
