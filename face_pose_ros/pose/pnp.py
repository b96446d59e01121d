"""Closed-form start of the pose: no previous frame, no guess, any central camera.

The object-space cost of SQPnP (Terzakis and Lourakis, ECCV 2020, eq. 3-8) written for unit rays
instead of normalised coordinates, so that a fisheye's rays beyond 90 deg count like any other:
sum_i w_i |(I - f_i f_i^T) (R x_i + t)|^2. The optimal t is linear in R, which leaves
r^T Omega r with r = vec(R). Omega's smallest eigenvectors, made rotations, are the starts of a
few Gauss-Newton steps on SO(3); the best one in front of the camera wins.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.geometry import robust, so3

_CANDIDATE_EIGENVECTORS = 3  # a face is nearly planar: the true one may not be the smallest
_GAUSS_NEWTON_STEPS = 8
_REWEIGHTINGS = 3  # enough for a third of gross outliers; each costs one more eigenproblem
_OUTLIER_SCALE = 3.0  # of the residuals' robust standard deviation


class PoseStart(NamedTuple):
    """Start values of N faces."""

    R_cam_head: Tensor  # (N, 3, 3)
    t_cam_head: Tensor  # (N, 3) m


def solve_pnp_rays(xyz_head: Tensor, rays: Tensor, weight: Tensor) -> PoseStart:
    """Pose from 3-D points and the rays on which the camera sees them.

    Gross outliers are weighted down by re-solving with Geman-McClure weights. With fewer than six
    points of non-zero weight, or all of them on one line, the answer is finite but meaningless.

    Args:
        xyz_head: (N, K, 3) or (K, 3) points in the head frame [m].
        rays: (N, K, 3) unit vectors in the camera frame.
        weight: (N, K) non-negative weights; 0 leaves a point out.
    """
    xyz_head = xyz_head.expand_as(rays)
    start = _solve_weighted(xyz_head, rays, weight)
    for _ in range(_REWEIGHTINGS):
        error_sq = _object_space_error_sq(start, xyz_head, rays)
        # Median absolute deviation -> standard deviation of a 2-D Gaussian error's length.
        measured = torch.where(weight > 0, error_sq, torch.nan)
        variance = measured.nanmedian(dim=-1, keepdim=True).values / 1.386
        scaled = error_sq / variance.nan_to_num(nan=1.0).clamp_min(1e-18)
        start = _solve_weighted(
            xyz_head, rays, weight * robust.geman_mcclure(scaled, _OUTLIER_SCALE)[1]
        )
    return start


def _solve_weighted(xyz_head: Tensor, rays: Tensor, weight: Tensor) -> PoseStart:
    weight = weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
    centre = (weight[..., None] * xyz_head).sum(-2, keepdim=True)
    xyz = xyz_head - centre
    eye = torch.eye(3, dtype=rays.dtype, device=rays.device)
    # w (I - f f^T) for each point; with row-major r = vec(R), R x = A r, A = kron(I, x^T).
    Q = weight[..., None, None] * (eye - rays[..., :, None] * rays[..., None, :])
    Q_sum = Q.sum(-3) + 1e-12 * eye
    Qx = torch.einsum('nkij,nka->nija', Q, xyz).flatten(-2)  # (N, 3, 9): sum_i Q_i A_i
    t_of_r = -torch.linalg.solve(Q_sum, Qx)  # (N, 3, 9): t = t_of_r @ r
    Omega = torch.einsum('nkij,nka,nkb->niajb', Q, xyz, xyz).reshape(-1, 9, 9) + Qx.mT @ t_of_r
    Omega = 0.5 * (Omega + Omega.mT)

    R = _rotation_candidates(Omega)  # (N, M, 3, 3)
    for _ in range(_GAUSS_NEWTON_STEPS):
        R = _gauss_newton_step(R, Omega)
    t = torch.einsum('nij,nmj->nmi', t_of_r, R.flatten(-2))  # (N, M, 3)

    r = R.flatten(-2)
    cost = torch.einsum('nmi,nij,nmj->nm', r, Omega, r)
    depth = torch.einsum('nmij,nkj->nmki', R, xyz) + t[:, :, None]
    behind = ((depth * rays[:, None]).sum(-1) * weight[:, None]).sum(-1) <= 0
    best = torch.where(behind, torch.inf, cost).argmin(-1)
    rows = torch.arange(R.shape[0], device=R.device)
    R_best = R[rows, best]
    return PoseStart(R_best, t[rows, best] - (R_best @ centre.mT).squeeze(-1))


def _rotation_candidates(Omega: Tensor) -> Tensor:
    """(N, 2 M, 3, 3) rotations next to +- the M smallest eigenvectors of Omega."""
    vectors = torch.linalg.eigh(Omega).eigenvectors[..., :_CANDIDATE_EIGENVECTORS]
    M = vectors.mT.unflatten(-1, (3, 3))
    return so3.nearest(torch.cat([M, -M], dim=-3))


def _gauss_newton_step(R: Tensor, Omega: Tensor) -> Tensor:
    """One step on min r^T Omega r over R <- exp(delta) R."""
    eye = torch.eye(3, dtype=R.dtype, device=R.device)
    # Column i of B is vec(hat(e_i) R).
    B = torch.einsum('aij,nmjk->nmika', so3.hat(eye), R).flatten(-3, -2)
    OmegaB = torch.einsum('nij,nmja->nmia', Omega, B)
    H = B.mT @ OmegaB
    trace = H.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    g = (OmegaB.mT @ R.flatten(-2)[..., None]).squeeze(-1)
    delta = -torch.linalg.solve(H + (1e-9 * trace + 1e-30) * eye, g)
    # A step beyond a radian means a saddle: the quadratic model says nothing there.
    delta = delta * (1 / delta.norm(dim=-1, keepdim=True).clamp_min(1))
    return so3.exp(delta) @ R


def _object_space_error_sq(start: PoseStart, xyz_head: Tensor, rays: Tensor) -> Tensor:
    """(N, K) squared angle-like error: |(I - f f^T) p|^2 / |p|^2 with p = R x + t."""
    xyz_cam = xyz_head @ start.R_cam_head.mT + start.t_cam_head[:, None]
    norm_sq = (xyz_cam * xyz_cam).sum(-1).clamp_min(1e-18)
    along = (xyz_cam * rays).sum(-1)
    # A point behind the camera is as wrong as one at a right angle to its ray.
    return torch.where(along > 0, 1 - along * along / norm_sq, 1).clamp_min(0)
