# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weak perspective of Pavlakos et al. (ICRA 2017): convex relaxation, then alternation.

All points of the head count as equally far away, so the picture is s R2 S(c) + T 1^T with the
first two rows R2 of a rotation. lab/docs/pavlakos.md has the equations, (1) to (14), in these
names. Closed forms of 2x2 matrices stand where an SVD would make a GPU wait for the host.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SPECTRAL_WEIGHT = 1.0  # alpha of the relaxation, the authors' value
_RELAXATION_STEPS = 30  # of ADMM: M to 1e-6 of its size on a face
_ROTATION_STEPS = 10  # per round; the authors allow their solver as many
_MIN_VIEW_DEPTH = 0.1  # a ray further than 84 deg from the face's direction is no part of it
_COST_FLOOR = 1e-15  # a change of the cost below rounding is no change
_TINY = 1e-30


class ShapeBasis(NamedTuple):
    """Shape S(c) = B0 + sum_i c_i B_i in units of the mean shape's own size, eq. (1).

    A point x [m] of the head frame is (x - centre_m) / unit_m.
    """

    B0: Tensor  # (K, 3), mean 0; the standard deviations of its three coordinates average to 1
    B: Tensor  # (C, K, 3)
    centre_m: Tensor  # (3,)
    unit_m: Tensor  # ()

    @classmethod
    def normalise(cls, xyz_head: Tensor, modes: Tensor) -> ShapeBasis:
        """Basis of a mean shape (K, 3) [m] and modes (C, K, 3) [m per unit of c]."""
        centre_m = xyz_head.mean(0)
        unit_m = xyz_head.std(0, correction=0).mean()
        return cls((xyz_head - centre_m) / unit_m, modes / unit_m, centre_m, unit_m)

    def points(self, c: Tensor) -> Tensor:
        """(N, K, 3) points S(c) of coefficients (N, C)."""
        return self.B0 + (c @ self.B.flatten(1)).unflatten(-1, self.B0.shape)

    def gram(self, weight: Tensor) -> Tensor:
        """(N, C, C) inner products of the modes about their means, both weighted by (N, K)."""
        products = torch.einsum('ikx,jkx->kij', self.B, self.B)
        total = weight.sum(-1).clamp_min(_TINY)[:, None, None]
        sums = torch.einsum('nk,ckx->ncx', weight, self.B)
        return torch.einsum('nk,kij->nij', weight, products) - sums @ sums.mT / total


class PoseStart(NamedTuple):
    """Start values of N faces, the more likely one first."""

    R_cam_head: Tensor  # (N, S, 3, 3)
    t_cam_head: Tensor  # (N, S, 3) m


class Alternation(NamedTuple):
    """N faces between two rounds of an alternation."""

    R: Tensor  # (N, 3, 3) R_cam_head
    T: Tensor  # (N, 3) where S = 0 lies in the camera frame, in units of the shape
    c: Tensor  # (N, C) shape coefficients
    cost: Tensor  # (N,) value of the objective
    iterations: Tensor  # (N,) int64, rounds until the face stopped
    converged: Tensor  # (N,) bool: the last round changed the cost by less than the tolerance

    @classmethod
    def start(cls, R: Tensor, T: Tensor, c: Tensor) -> Alternation:
        """No round done yet."""
        cost = torch.full_like(T[:, 0], torch.inf)
        zero = torch.zeros_like(cost, dtype=torch.int64)
        return cls(R, T, c, cost, zero, zero.bool())

    def advance(
        self, R: Tensor, T: Tensor, c: Tensor, cost: Tensor, tolerance: float
    ) -> Alternation:
        """One more round of the faces that have not converged."""
        moving = ~self.converged
        settled = (self.cost - cost).abs() < tolerance * self.cost + _COST_FLOOR
        return Alternation(
            torch.where(moving[:, None, None], R, self.R),
            torch.where(moving[:, None], T, self.T),
            torch.where(moving[:, None], c, self.c),
            torch.where(moving, cost, self.cost),
            self.iterations + moving,
            self.converged | settled,
        )

    def is_over(self) -> bool:
        """True when no face moves. Never on a GPU, where asking costs more than idle rounds."""
        return self.cost.device.type == 'cpu' and bool(self.converged.all())

    def metric_pose(self, basis: ShapeBasis) -> PoseStart:
        """R_cam_head and t_cam_head [m], eq. (14)."""
        return PoseStart(self.R, basis.unit_m * self.T - self.R @ basis.centre_m)


def weak_perspective_start(xyz_head: Tensor, rays: Tensor, weight: Tensor) -> PoseStart:
    """Pose of a rigid face under weak perspective: a start for a fit with full perspective.

    Exact only for a face much smaller than its distance. With fewer than four points of non-zero
    weight the answer is finite but meaningless.

    Args:
        xyz_head: (K, 3) points in the head frame [m].
        rays: (N, K, 3) unit vectors in the camera frame.
        weight: (N, K) non-negative weights; 0 leaves a point out.
    """
    basis = ShapeBasis.normalise(xyz_head, xyz_head.new_zeros(0, *xyz_head.shape))
    problem = WeakPerspectiveProblem.build(basis, rays, confidences(weight), shape_weight=1)
    R, t = problem.alternate(tolerance=0, max_iterations=1).metric_pose(basis)
    return PoseStart(R[:, None], t[:, None])


def confidences(weight: Tensor) -> Tensor:
    """(N, K) diagonal of D: the weights (N, K), scaled to a mean of 1 over the measured points."""
    measured = (weight > 0).sum(-1, keepdim=True)
    return weight * (measured / weight.sum(-1, keepdim=True).clamp_min(_TINY))


class WeakPerspectiveProblem(NamedTuple):
    """Minimise |(W - s R2 S(c) - T 1^T) D^(1/2)|^2 + lambda |c|^2, eq. (3), for N faces."""

    basis: ShapeBasis
    W: Tensor  # (N, K, 2) about the face's own direction, weighted mean 0 and variance 1
    weight: Tensor  # (N, K) diagonal of D
    shape_weight: float  # lambda
    R_cam_view: Tensor  # (N, 3, 3) the frame whose z axis is the face's direction
    xy_mean: Tensor  # (N, 2) weighted mean of the normalised coordinates in that frame
    xy_spread: Tensor  # (N,) what W was divided by

    @classmethod
    def build(
        cls, basis: ShapeBasis, rays: Tensor, weight: Tensor, shape_weight: float
    ) -> WeakPerspectiveProblem:
        """From unit rays (N, K, 3) and the diagonal of D (N, K) of the basis' K points."""
        R_cam_view = look_along((weight[..., None] * rays).sum(-2))
        xyz_view = rays @ R_cam_view
        xy = xyz_view[..., :2] / xyz_view[..., 2:].clamp_min(_MIN_VIEW_DEPTH)
        xy, mean = remove_mean(xy, weight)
        spread = remove_mean(xy * xy, weight)[1].mean(-1).sqrt().clamp_min(_TINY)
        return cls(
            basis, xy / spread[:, None, None], weight, shape_weight, R_cam_view, mean, spread
        )

    def alternate(self, tolerance: float, max_iterations: int) -> Alternation:
        """From the relaxation, rounds of (T, R2, s) and (T, c) until the cost converges.

        Args:
            tolerance: A face stops when a round changes its cost relatively less.
            max_iterations: Rounds at most.
        """
        c = self.W.new_zeros(len(self.W), len(self.basis.B))
        R_view_head = complete_rotation(stiefel_projection(relax(*self._moments(c))))
        state = Alternation.start(R_view_head, self.W.new_zeros(len(self.W), 3), c)
        for _ in range(max_iterations):
            if state.is_over():
                break
            R, scale = self._update_rotation(state)
            c = self._update_shape(R, scale)
            T, cost = self._translation_and_cost(R, scale, c)
            state = state.advance(R, T, c, cost, tolerance)
        T_cam = (self.R_cam_view @ state.T[..., None]).squeeze(-1)
        return state._replace(R=self.R_cam_view @ state.R, T=T_cam)

    def _moments(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """W D S^T (N, 2, 3) and S D S^T (N, 3, 3), S about its weighted mean."""
        S, _ = remove_mean(self.basis.points(c), self.weight)
        DS = self.weight[..., None] * S
        return self.W.mT @ DS, S.mT @ DS

    def _update_rotation(self, state: Alternation) -> tuple[Tensor, Tensor]:
        """R (N, 3, 3) and s (N,) for the current shape, eq. (7) and (8)."""
        WDS, SDS = self._moments(state.c)
        R2 = state.R[:, :2]
        scale = _best_scale(R2, WDS, SDS)
        for _ in range(_ROTATION_STEPS):
            R2 = _rotation_step(R2, scale, WDS, SDS)
            scale = _best_scale(R2, WDS, SDS)
        return complete_rotation(R2), scale

    def _update_shape(self, R: Tensor, scale: Tensor) -> Tensor:
        """Coefficients c (N, C) by weighted, regularised least squares, eq. (9)."""
        s_R2 = scale[:, None, None] * R[:, :2]
        # Keypoints come first and modes last: columns of X about their weighted means.
        X = torch.einsum('ckx,nyx->nkyc', self.basis.B, s_R2)
        X = remove_mean(X.flatten(2), self.weight)[0].view_as(X)
        B0 = remove_mean(self.basis.B0.expand(len(R), -1, -1), self.weight)[0]
        y = (self.W - B0 @ s_R2.mT)[..., None]
        XD = (self.weight[..., None, None] * X).flatten(1, 2).mT
        return solve_ridge(XD @ X.flatten(1, 2), XD @ y.flatten(1, 2), self.shape_weight)

    def _translation_and_cost(self, R: Tensor, scale: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """T (N, 3) in the view's frame, eq. (6) and (10), and the cost (N,)."""
        S, S_mean = remove_mean(self.basis.points(c), self.weight)
        residual = self.W - scale[:, None, None] * S @ R[:, :2].mT
        cost = (self.weight * (residual * residual).sum(-1)).sum(-1)
        depth = 1 / (scale * self.xy_spread)
        mean = torch.cat([self.xy_mean, torch.ones_like(depth)[:, None]], -1) * depth[:, None]
        T = mean - (R @ S_mean[..., None]).squeeze(-1)
        return T, cost + self.shape_weight * (c * c).sum(-1)


def remove_mean(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Points (N, K, D) about their weighted mean, and that mean (N, D)."""
    share = weight / weight.sum(-1, keepdim=True).clamp_min(_TINY)
    mean = torch.einsum('nk,nkd->nd', share, x)
    return x - mean[:, None], mean


def solve_ridge(XDX: Tensor, XDy: Tensor, shape_weight: float) -> Tensor:
    """Solution c (N, C) of (X^T D X + lambda I) c = X^T D y, from (N, C, C) and (N, C, 1)."""
    eye = torch.eye(XDX.shape[-1], dtype=XDX.dtype, device=XDX.device)
    L, _ = torch.linalg.cholesky_ex(XDX + shape_weight * eye)
    return torch.cholesky_solve(XDy, L).squeeze(-1)


def relax(WDS: Tensor, SDS: Tensor) -> Tensor:
    """M (N, 2, 3) that minimises 1/2 |(W - M S) D^(1/2)|^2 + alpha |M|_2, eq. (4) and (5).

    The spectral norm |M|_2 pulls M towards a multiple s R2 of orthonormal rows. Convex; solved by
    the alternating direction method of multipliers.

    Args:
        WDS: (N, 2, 3) W D S^T of centred W and S.
        SDS: (N, 3, 3) S D S^T.
    """
    eye = torch.eye(3, dtype=SDS.dtype, device=SDS.device)
    # Half the mean eigenvalue: the fastest of the factors tried on the mean face.
    mu = 0.5 * SDS.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None].clamp_min(_TINY)
    inverse = torch.linalg.inv_ex(SDS + mu * eye).inverse
    M = U = torch.zeros_like(WDS)
    for _ in range(_RELAXATION_STEPS):
        Z = (WDS + mu * (M + U)) @ inverse
        M = spectral_norm_prox(Z - U, _SPECTRAL_WEIGHT / mu[:, 0, 0])
        U = U + M - Z
    return M


def spectral_norm_prox(A: Tensor, threshold: Tensor) -> Tensor:
    """argmin_X threshold |X|_2 + 1/2 |X - A|_F^2, (N, 2, 3), eq. (5).

    The singular values lose their projection onto the l1 ball of that radius (Moreau).

    Args:
        A: (N, 2, 3).
        threshold: (N,) non-negative.
    """
    G = A @ A.mT
    mean = 0.5 * (G[:, 0, 0] + G[:, 1, 1])
    half_gap = torch.hypot(0.5 * (G[:, 0, 0] - G[:, 1, 1]), G[:, 0, 1])
    # The cross product of the rows has the length s_1 s_2: no cancellation for a small s_2.
    area = torch.linalg.cross(A[:, 0], A[:, 1]).norm(dim=-1)
    s_1 = (mean + half_gap).sqrt().clamp_min(_TINY)
    s_2 = (area / s_1).clamp_min(_TINY)
    equal = (0.5 * (s_1 + s_2 - threshold)).clamp_min(0)
    both = s_1 - s_2 <= threshold
    h_1 = torch.where(both, equal, s_1 - threshold) / s_1
    h_2 = torch.where(both, equal, s_2) / s_2
    # h_1 and h_2 on the eigenvectors of G: a polynomial of first degree in G.
    slope = torch.where(half_gap > 0, (h_1 - h_2) / (2 * half_gap).clamp_min(_TINY), 0.0)
    eye = torch.eye(2, dtype=A.dtype, device=A.device)
    centred = G - (mean - half_gap)[:, None, None] * eye
    return (h_2[:, None, None] * eye + slope[:, None, None] * centred) @ A


def stiefel_projection(A: Tensor) -> Tensor:
    """Nearest (N, 2, 3) matrix with orthonormal rows: (A A^T)^(-1/2) A, eq. (8)."""
    G = A @ A.mT
    area = torch.linalg.cross(A[:, 0], A[:, 1]).norm(dim=-1).clamp_min(_TINY)
    # sqrt(G) = (G + sqrt(det G) I) / tr sqrt(G) by Cayley-Hamilton, inverted by its adjugate.
    trace = (G[:, 0, 0] + G[:, 1, 1] + 2 * area).sqrt()
    a, b, d = G[:, 0, 0] + area, G[:, 0, 1], G[:, 1, 1] + area
    adjugate = torch.stack([d, -b, -b, a], -1).unflatten(-1, (2, 2))
    return adjugate @ A / (trace * area)[:, None, None]


def complete_rotation(R2: Tensor) -> Tensor:
    """Rotation (N, 3, 3) with the first two rows R2 (N, 2, 3)."""
    return torch.cat([R2, torch.linalg.cross(R2[:, 0], R2[:, 1])[:, None]], -2)


def _rotation_step(R2: Tensor, scale: Tensor, WDS: Tensor, SDS: Tensor) -> Tensor:
    """R2 of no higher cost, by a majorising linear function, eq. (8)."""
    gamma = SDS.abs().sum(-1).amax(-1)[:, None, None]  # bounds the eigenvalues of S D S^T
    return stiefel_projection(WDS + scale[:, None, None] * (gamma * R2 - R2 @ SDS))


def _best_scale(R2: Tensor, WDS: Tensor, SDS: Tensor) -> Tensor:
    """Positive s (N,) of least cost, eq. (7)."""
    numerator, denominator = (WDS * R2).sum((-1, -2)), ((R2 @ SDS) * R2).sum((-1, -2))
    return (numerator / denominator.clamp_min(_TINY)).clamp_min(_TINY)


def look_along(direction: Tensor) -> Tensor:
    """Rotations (N, 3, 3) whose third column is the direction (N, 3) (Duff et al., JCGT 2017)."""
    x, y, z = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
    sign = torch.where(z < 0, -1.0, 1.0).to(z)
    a = -1 / (sign + z)
    b = x * y * a
    rows = [1 + sign * x * x * a, b, x, sign * b, sign + y * y * a, y, -sign * x, -y, z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
