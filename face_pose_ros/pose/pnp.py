"""Closed-form start of the pose: no previous frame, no guess, any central camera.

The object-space cost of SQPnP (Terzakis and Lourakis, ECCV 2020, eq. 3-8) written for unit rays
instead of normalised coordinates, so that a fisheye's rays beyond 90 deg count like any other:
sum_i w_i |(I - f_i f_i^T) (R x_i + t)|^2. The optimal t is linear in R, which leaves
r^T Omega r with r = vec(R). Omega's smallest eigenvectors, made rotations, are the starts of a
few Gauss-Newton steps on SO(3); the best one in front of the camera wins.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.geometry import robust, so3

CANDIDATE_EIGENVECTORS = 3  # a face is nearly planar: the true one may not be the smallest
GAUSS_NEWTON_STEPS = 4  # from an eigenvector; the refinement that follows does the rest
# Between the head's x axis and the rays: a face turned away by more than 120 deg has no keypoints
# that a camera could see. The mean shape sometimes fits another person's best from inside.
MAX_COS_FORWARD = 0.5
MAX_TRACE_APART = 2.88  # of the rotation between two minima: more than 20 deg
SAMPLE_SIZE = 6  # keypoints of a hypothesis
_SAMPLES = 23  # with 20 % outliers all of them are spoilt once in 1000 faces
OUTLIER_SCALE = 3.0  # of the residuals' robust standard deviation


class PoseStart(NamedTuple):
    """Start values of N faces, the more likely one first."""

    R_cam_head: Tensor  # (N, S, 3, 3)
    t_cam_head: Tensor  # (N, S, 3) m


def solve_pnp_rays(xyz_head: Tensor, rays: Tensor, weight: Tensor) -> PoseStart:
    """Two poses from 3-D points and the rays on which the camera sees them.

    Of the solution of all points and those of small samples the one with the least median error
    wins (Rousseeuw 1984), unless one more solve with all its inliers, by Geman-McClure weights,
    is better still. The second pose is the best one that is turned far from it: a face that is
    small in the picture is nearly flat, and looks nearly the same from two sides. With fewer than
    six points of non-zero weight, or all of them on one line, the answers are finite but
    meaningless.

    Args:
        xyz_head: (K, 3) points in the head frame [m].
        rays: (N, K, 3) unit vectors in the camera frame.
        weight: (N, K) non-negative weights; 0 leaves a point out.
    """
    faces = len(rays)
    xyz_all = xyz_head.expand_as(rays)
    samples = _sample(weight)
    rows = torch.arange(faces, device=rays.device)[:, None, None]
    of_all = _ObjectSpaceSystem.build(xyz_all[:, None], rays[:, None], weight[:, None])
    of_samples = _ObjectSpaceSystem.build(
        xyz_all[rows, samples], rays[rows, samples], weight[rows, samples]
    )
    R, t = of_all.join(of_samples).minimise()
    R, t = R[..., 0, :, :], t[..., 0, :]
    error_sq = _object_space_error_sq(R, t, xyz_head, rays)  # (N, 1 + samples, K)
    unmeasured = (weight == 0)[:, None]
    median = error_sq.masked_fill(unmeasured, torch.nan).nanmedian(dim=-1).values
    best = median.nan_to_num(nan=torch.inf).argmin(-1)
    face = rows[:, 0, 0]
    variance = median[face, best] / robust.NORMAL_MEDIAN
    scaled = error_sq[face, best] / variance.nan_to_num(1.0).clamp_min(1e-18)[:, None]
    inlier_weight = robust.geman_mcclure(scaled, OUTLIER_SCALE).weight
    inliers = _ObjectSpaceSystem.build(xyz_all, rays, weight * inlier_weight).minimise()
    error_sq = _object_space_error_sq(*inliers, xyz_head, rays)
    of_inliers = error_sq.masked_fill(unmeasured, torch.nan).nanmedian(dim=-1).values[:, 0]
    # A sample may agree by chance with half of the others: then its inliers need not.
    better = of_inliers < median[face, best]
    R = torch.stack([R[face, best], inliers.R_cam_head[:, 0]], 1)
    t = torch.stack([t[face, best], inliers.t_cam_head[:, 0]], 1)
    return PoseStart(
        torch.where(better[:, None, None, None], inliers.R_cam_head, R),
        torch.where(better[:, None, None], inliers.t_cam_head, t),
    )


def sample_ranks(count: int) -> Tensor:
    """(_SAMPLES, count) how much each sample would like to have each keypoint, in [0, 1)."""
    return torch.rand(_SAMPLES, count, generator=torch.Generator().manual_seed(0))


def _sample(weight: Tensor) -> Tensor:
    """(N, _SAMPLES, SAMPLE_SIZE) indices of measured keypoints.

    One fixed table of random ranks serves every face, so that a face's samples depend neither on
    its neighbours in the batch nor on the calls before.
    """
    ranks = sample_ranks(weight.shape[-1]).to(weight.device)
    ranks = torch.where((weight > 0)[:, None], ranks, -1.0)
    return ranks.topk(SAMPLE_SIZE, dim=-1).indices


class _ObjectSpaceSystem(NamedTuple):
    """The cost of any number of problems, reduced to small matrices; `...` is their shape.

    The points are centred, which keeps Omega well conditioned at any distance.
    """

    Omega: Tensor  # (..., 9, 9): the cost is r^T Omega r with row-major r = vec(R)
    t_of_r: Tensor  # (..., 3, 9): the best translation is t_of_r @ r
    depth_of_r: Tensor  # (..., 9): the weighted mean depth along the rays is depth_of_r @ r
    centre: Tensor  # (..., 3) m, in the head frame
    ray: Tensor  # (..., 3) weighted mean of the rays

    @classmethod
    def build(cls, xyz_head: Tensor, rays: Tensor, weight: Tensor) -> _ObjectSpaceSystem:
        """System of points (..., K, 3) on rays (..., K, 3) with weights (..., K)."""
        weight = (weight / weight.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
        centre = (weight * xyz_head).sum(-2)
        xyz = xyz_head - centre[..., None, :]
        eye = torch.eye(3, dtype=rays.dtype, device=rays.device)
        # w (I - f f^T) for each point; R x = A r with A = kron(I, x^T).
        Q = (weight[..., None] * (eye - rays[..., :, None] * rays[..., None, :])).flatten(-2)
        Q_sum = Q.sum(-2).unflatten(-1, (3, 3)) + 1e-12 * eye
        Qx = (Q.mT @ xyz).unflatten(-2, (3, 3)).flatten(-2)  # sum_i Q_i A_i
        t_of_r = -torch.linalg.solve(Q_sum, Qx)
        xx = (xyz[..., :, None] * xyz[..., None, :]).flatten(-2)
        AQA = (Q.mT @ xx).unflatten(-1, (3, 3)).unflatten(-3, (3, 3)).transpose(-3, -2)
        Omega = AQA.flatten(-2).flatten(-3, -2) + Qx.mT @ t_of_r
        ray_x = ((weight * rays).mT @ xyz).flatten(-2)
        ray = (weight * rays).sum(-2)
        depth_of_r = ray_x + (ray[..., None, :] @ t_of_r).squeeze(-2)
        return cls(0.5 * (Omega + Omega.mT), t_of_r, depth_of_r, centre, ray)

    def join(self, other: _ObjectSpaceSystem) -> _ObjectSpaceSystem:
        """Both, along the last dimension of the problems' shape."""
        pairs = zip(self, other, (-3, -3, -2, -2, -2), strict=True)
        return _ObjectSpaceSystem(*(torch.cat([a, b], dim) for a, b, dim in pairs))

    def minimise(self) -> PoseStart:
        """R (..., 2, 3, 3) and t (..., 2, 3) of least cost and of the next minimum.

        Both are in front of the camera and face it, if any do.
        """
        R = _rotation_candidates(self.Omega, self.ray)  # (..., M, 3, 3)
        for _ in range(GAUSS_NEWTON_STEPS):
            R = _gauss_newton_step(R, self.Omega)
        r = R.flatten(-2)  # (..., M, 9)
        cost = ((r @ self.Omega) * r).sum(-1)
        behind = (r @ self.depth_of_r[..., None]).squeeze(-1) <= 0
        away = (R[..., 0] * self.ray[..., None, :]).sum(-1) > MAX_COS_FORWARD
        cost = torch.where(behind | away, torch.inf, cost)
        best = cost.argmin(-1, keepdim=True)
        r_best = r.gather(-2, best[..., None].expand(*best.shape, 9))
        # The trace of R_a^T R_b is the inner product of the vectors.
        same = (r * r_best).sum(-1) > MAX_TRACE_APART
        next_best = torch.where(same, torch.inf, cost).argmin(-1, keepdim=True)
        is_one = torch.where(same, torch.inf, cost).gather(-1, next_best).isfinite()
        next_best = torch.where(is_one, next_best, best)
        r = torch.cat([r_best, r.gather(-2, next_best[..., None].expand(*best.shape, 9))], -2)
        R = r.unflatten(-1, (3, 3))
        t = r @ self.t_of_r.mT - (R @ self.centre[..., None, :, None]).squeeze(-1)
        return PoseStart(R, t)


def _rotation_candidates(Omega: Tensor, ray: Tensor) -> Tensor:
    """(..., 2 M + 4, 3, 3) rotations from which to descend.

    Those next to +- the M smallest eigenvectors of Omega (..., 9, 9), and a face that looks along
    -ray (..., 3) in four rolls: the mean shape on another person's keypoints may have a minimum
    that no eigenvector leads to.
    """
    vectors = torch.linalg.eigh(Omega).eigenvectors[..., :CANDIDATE_EIGENVECTORS]
    M = vectors.mT.unflatten(-1, (3, 3))
    x = -torch.nn.functional.normalize(ray, dim=-1)
    # The person's left is on the picture's right; a fisheye's ray may be that direction itself.
    right = torch.where(
        x[..., :1].abs() > 0.9, x.new_tensor([0.0, 0.0, 1.0]), x.new_tensor([1.0, 0.0, 0.0])
    )
    y = torch.nn.functional.normalize(right - (right * x).sum(-1, keepdim=True) * x, dim=-1)
    z = torch.linalg.cross(x, y)
    rolls = [torch.stack([x, *yz], -1) for yz in ((y, z), (z, -y), (-y, -z), (-z, y))]
    return torch.cat([so3.nearest(torch.cat([M, -M], dim=-3)), torch.stack(rolls, -3)], -3)


def _gauss_newton_step(R: Tensor, Omega: Tensor) -> Tensor:
    """One step on min r^T Omega r over R <- exp(delta) R, for R (..., M, 3, 3)."""
    eye = torch.eye(3, dtype=R.dtype, device=R.device)
    # Row i of B^T is vec(hat(e_i) R).
    Bt = (so3.hat(eye) @ R[..., None, :, :]).flatten(-2)  # (..., M, 3, 9)
    OmegaB = Bt @ Omega[..., None, :, :]
    H = OmegaB @ Bt.mT
    trace = H.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    g = OmegaB @ R.flatten(-2)[..., None]
    delta = -torch.linalg.solve(H + (1e-9 * trace + 1e-30) * eye, g).squeeze(-1)
    # A step beyond a radian means a saddle: the quadratic model says nothing there.
    delta = delta * (1 / delta.norm(dim=-1, keepdim=True).clamp_min(1))
    return so3.exp(delta) @ R


def _object_space_error_sq(R: Tensor, t: Tensor, xyz_head: Tensor, rays: Tensor) -> Tensor:
    """Squared sine of the angle between the points of M poses of each face and their rays.

    Args:
        R: (N, M, 3, 3).
        t: (N, M, 3) m.
        xyz_head: (K, 3) m.
        rays: (N, K, 3).

    Returns:
        (N, M, K); 1 for a point behind the camera.
    """
    xyz_cam = xyz_head @ R.mT + t[..., None, :]
    norm_sq = (xyz_cam * xyz_cam).sum(-1).clamp_min(1e-18)
    along = (xyz_cam * rays[:, None]).sum(-1)
    return torch.where(along > 0, 1 - along * along / norm_sq, 1).clamp_min(0)
