# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The fit of Pavlakos et al., "6-DoF Object Pose from Semantic Keypoints" (ICRA 2017).

Alternation of closed-form steps on an object-space error, to compare with the maximum a
posteriori fit of `face_pose_ros.pose.fit` on the same keypoints. lab/docs/pavlakos.md has the
equations, the differences from the authors' code, and what to expect.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from face_pose_lab.reference.weak_perspective import (
    Alternation,
    ShapeBasis,
    WeakPerspectiveProblem,
    confidences,
    remove_mean,
    solve_ridge,
)
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.torch_types import Keypoints
from face_pose_ros.pose.face_model import FaceModel

_MIN_KEYPOINTS = 6
_FARTHEST = 1e6  # sizes of the face; keypoints that all lie on one pixel mean infinity
_TINY = 1e-30


@dataclass(frozen=True)
class PavlakosOptions:
    """Options of `fit_pavlakos`; the defaults are the authors'."""

    perspective: str = 'full'  # 'full', or 'weak' to stop before the full-perspective alternation
    shape_weight: float = 1.0  # lambda, in units of the mean shape's size squared
    tolerance: float = 1e-3  # a face stops when a round changes its cost relatively less
    max_iterations: int = 1000  # rounds of each alternation

    def __post_init__(self) -> None:
        if self.perspective not in ('full', 'weak'):
            raise ValueError(f"perspective '{self.perspective}' is not one of full, weak")
        for name in ('shape_weight', 'max_iterations'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
        if self.tolerance < 0:
            raise ValueError(f'tolerance must be >= 0, got {self.tolerance}')


@dataclass(frozen=True)
class PavlakosResult:
    """Poses of N faces. The formulation states no covariance."""

    T_cam_head: Tensor  # (N, 4, 4) float64, metres; identity where failed
    shape: Tensor  # (N, C) in prior standard deviations: the size, always 0, then c
    cost: Tensor  # (N,) value of the objective, in units of the mean shape's size squared
    iterations: Tensor  # (N,) int64, rounds of the last alternation
    converged: Tensor  # (N,) bool: stopped by the tolerance, not by max_iterations
    failed: Tensor  # (N,) bool: no usable pose for this face


def fit_pavlakos(
    keypoints: Keypoints,
    model: FaceModel,
    camera: Camera,
    options: PavlakosOptions | None = None,
) -> PavlakosResult:
    """Pose and shape of each face by alternation, from the weak-perspective start.

    A face with fewer than six usable keypoints, or whose head comes out behind the camera, is
    marked failed, has an identity pose, and leaves the other faces as they would be without it.

    Args:
        keypoints: N faces, the first K of their keypoints belong to the model's points. Keypoint
            i has the confidence 1 / sigma_i^2, scaled to a mean of 1 over the face.
        model: Face model with K points. Its size is held at the mean: the shapes of this
            formulation are normalised, and an object-space error is least for a small head.
        camera: The camera in whose pixels the keypoints are.
        options: See `PavlakosOptions`.
    """
    options = options or PavlakosOptions()
    xyz_head, modes = torch.from_numpy(model.xyz_head), torch.from_numpy(model.modes)
    uv = keypoints.uv[:, : len(xyz_head)].to(xyz_head)
    sigma = keypoints.sigma_px[:, : len(xyz_head)].to(xyz_head)

    usable = uv.isfinite().all(-1) & sigma.isfinite() & (sigma > 0)
    rays, has_ray = camera.unproject(torch.where(usable[..., None], uv, camera.c))
    usable &= has_ray
    enough = usable.sum(-1) >= _MIN_KEYPOINTS
    # A hopeless face keeps unit weights: its numbers stay finite and are thrown away at the end.
    weight = torch.where(usable, 1 / torch.where(usable, sigma, 1.0) ** 2, 0.0)
    weight = confidences(torch.where(enough[:, None], weight, 1.0))

    basis = ShapeBasis.normalise(xyz_head, modes)
    state = WeakPerspectiveProblem.build(basis, rays, weight, options.shape_weight).alternate(
        options.tolerance, options.max_iterations
    )
    if options.perspective == 'full':
        state = alternate_full_perspective(basis, rays, weight, state, options)

    R, t = state.metric_pose(basis)
    xyz_cam = basis.points(state.c) @ R.mT + state.T[:, None]
    in_front = (weight * (rays * xyz_cam).sum(-1)).sum(-1) > 0  # the mean of Z
    finite = R.isfinite().all((-1, -2)) & state.c.isfinite().all(-1)
    failed = ~(enough & finite & in_front & (state.T.norm(dim=-1) < _FARTHEST))
    eye = torch.eye(4, dtype=R.dtype, device=R.device)
    return PavlakosResult(
        T_cam_head=torch.where(failed[:, None, None], eye, se3.from_rt(R, t)),
        shape=torch.nn.functional.pad(torch.where(failed[:, None], 0.0, state.c), (1, 0)),
        cost=torch.where(failed, torch.inf, state.cost),
        iterations=state.iterations,
        converged=state.converged & ~failed,
        failed=failed,
    )


def alternate_full_perspective(
    basis: ShapeBasis, rays: Tensor, weight: Tensor, start: Alternation, options: PavlakosOptions
) -> Alternation:
    """Minimise |(W Z - R S(c) - T 1^T) D^(1/2)|^2 + lambda |c|^2 over Z, T, R and c, eq. (11)."""
    B0, _ = remove_mean(basis.B0.expand(len(rays), -1, -1), weight)
    XDX = basis.gram(weight)  # rotations leave it as it is
    state = Alternation.start(start.R, start.T, start.c)
    S, S_mean = remove_mean(basis.points(start.c), weight)
    xyz_cam = (S + S_mean[:, None]) @ start.R.mT + start.T[:, None]
    for _ in range(options.max_iterations):
        if state.is_over():
            break
        # Z: the point of each ray next to its keypoint, eq. (12).
        WZ = rays * (rays * xyz_cam).sum(-1, keepdim=True)
        Q, Q_mean = remove_mean(WZ, weight)
        # R, with T eliminated: weighted Procrustes, eq. (13).
        R = procrustes(Q.mT @ (weight[..., None] * S))
        # c, with T eliminated: weighted, regularised least squares, eq. (13).
        y = Q @ R - B0
        XDy = (weight[..., None] * y).flatten(1) @ basis.B.flatten(1).T
        c = solve_ridge(XDX, XDy[..., None], options.shape_weight)
        S, S_mean = remove_mean(basis.points(c), weight)
        T = Q_mean - (R @ S_mean[..., None]).squeeze(-1)
        xyz_cam = S @ R.mT + Q_mean[:, None]
        cost = (weight * (WZ - xyz_cam).square().sum(-1)).sum(-1)
        cost = cost + options.shape_weight * c.square().sum(-1)
        state = state.advance(R, T, c, cost, options.tolerance)
    return state


def procrustes(M: Tensor) -> Tensor:
    """Rotations (N, 3, 3) with the largest trace(R^T M), for M (N, 3, 3).

    Horn (1987): the unit quaternion is the largest eigenvector of a 4x4 matrix, here by squaring
    that matrix until one eigenvector is left. The same rotation as U diag(1, 1, det(U V^T)) V^T
    of the SVD, for which a GPU would wait.
    """
    trace = M.diagonal(dim1=-2, dim2=-1).sum(-1)
    eye = torch.eye(3, dtype=M.dtype, device=M.device)
    skew = M.mT - M
    axis = torch.stack([skew[:, 1, 2], skew[:, 2, 0], skew[:, 0, 1]], -1)
    upper = torch.cat([M + M.mT - trace[:, None, None] * eye, axis[..., None]], -1)
    lower = torch.cat([axis, trace[:, None]], -1)
    N = torch.cat([upper, lower[:, None]], -2)
    # Its eigenvalues are +-s_1 +-s_2 +-s_3: shifted by their bound, the largest is the longest.
    bound = 3**0.5 * M.flatten(1).norm(dim=-1)[:, None, None] + _TINY
    P = 0.25 * (N / bound + torch.eye(4, dtype=M.dtype, device=M.device))  # of trace 1
    for _ in range(3):  # to the 32768th power, in steps that cannot underflow
        P = torch.linalg.matrix_power(P, 32)
        P = P / P.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    # P = q q^T: the column with the largest diagonal divides by the largest number.
    best = P.diagonal(dim1=-2, dim2=-1).argmax(-1)
    return so3.from_quat_xyzw(P.gather(-1, best[:, None, None].expand(-1, 4, 1)).squeeze(-1))
