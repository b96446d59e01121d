"""Covariance of the pose with the shape marginalised, from the optimiser's last system."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.geometry.robust import Efficiency
from face_pose_ros.pose.residuals import NormalEquations, ShapePrior

# The observed Hessian of a redescending kernel may vanish on keypoints that are all far off.
MIN_RELATIVE_BETA = 0.1


class PoseCovariance(NamedTuple):
    """Fields as in `HeadPoses`."""

    covariance: Tensor  # (N, 6, 6)
    covariance_given_shape: Tensor  # (N, 6, 6)
    pose_of_shape: Tensor  # (N, 6, C)
    shape_covariance: Tensor  # (N, C, C)
    regular: Tensor  # (N,) bool: the keypoints fix the pose

    def with_size(self, t: Tensor, size_sigma: float, prior: ShapePrior) -> PoseCovariance:
        """The same for heads of the prior's size, with the size as the first coefficient.

        A head of size s has its translation s t; the picture tells nothing of s, so its
        distribution stays the prior's and moves the head along its ray.

        Args:
            t: (N, 3) m, translations of heads of mean size.
            size_sigma: Relative standard deviation of the size.
            prior: Of the N shapes, or of any (N = 1).
        """
        size = (1 + size_sigma * prior.mean[:, :1]).expand(len(t), 1)
        scale = torch.cat([size.expand(-1, 3), torch.ones_like(t)], -1)
        of_size = torch.cat([size_sigma * t, torch.zeros_like(t)], -1)[..., None]
        G = torch.cat([of_size, scale[..., None] * self.pose_of_shape], -1)
        modes = self.shape_covariance.shape[-1]
        of_shape = G.new_zeros(len(t), 1 + modes, 1 + modes)
        of_shape[:, 0, 0] = 1 / prior.information[:, 0, 0]
        of_shape[:, 1:, 1:] = self.shape_covariance
        given_shape = scale[:, :, None] * self.covariance_given_shape * scale[:, None]
        covariance = given_shape + G @ of_shape @ G.mT
        return PoseCovariance(covariance, given_shape, G, of_shape, self.regular)


def posterior_covariance(system: NormalEquations, expected: Efficiency) -> PoseCovariance:
    """Covariance of a robust maximum a posteriori estimate.

    The gradient of the keypoints' cost has the covariance alpha H, its expected Hessian is
    beta H (see `robust.Efficiency`); alpha grows with residuals that are larger than their
    sigma promised, and never falls below what normal noise gives. With S the Schur complement of
    the shape in H and P its prior, the shape has the covariance of an M-estimator with a prior,

        (beta S + P)^-1 (alpha S + P) (beta S + P)^-1,

    and the pose follows the shape by G = -H_pp^-1 H_pc. This holds for redundant keypoints too:
    their information is scaled down in H, by as much as their errors move together.

    Args:
        system: At the minimum.
        expected: alpha and beta of the kernel under normal noise.
    """
    alpha = system.alpha.clamp_min(expected.alpha)
    beta = system.beta.clamp(MIN_RELATIVE_BETA * expected.beta, 1.0)
    H = system.H
    H_pp = beta[:, None, None] * H[:, :6, :6] + system.prior[:, :6, :6]
    H_pc = beta[:, None, None] * H[:, :6, 6:]
    L, info = torch.linalg.cholesky_ex(H_pp)
    eye = torch.eye(6, dtype=H.dtype, device=H.device).expand_as(H_pp)
    of_pose = torch.cholesky_solve(eye, L)
    G = -torch.cholesky_solve(H_pc, L)
    middle = alpha[:, None, None] * H[:, :6, :6] + system.prior[:, :6, :6]
    given_shape = of_pose @ middle @ of_pose

    scale = (alpha / beta)[:, None, None]
    S = beta[:, None, None] * H[:, 6:, 6:] + H_pc.mT @ G
    P = system.prior[:, 6:, 6:]
    L_shape, info_shape = torch.linalg.cholesky_ex(S + P)
    eye = torch.eye(P.shape[-1], dtype=H.dtype, device=H.device).expand_as(P)
    inverse = torch.cholesky_solve(eye, L_shape)
    of_shape = inverse @ (scale * S + P) @ inverse
    covariance = given_shape + G @ of_shape @ G.mT
    regular = (info == 0) & (info_shape == 0) & covariance.isfinite().all((-1, -2))
    return PoseCovariance(covariance, given_shape, G, of_shape, regular)
