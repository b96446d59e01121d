# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Robust kernels in torch, differentiable: `face_pose_ros.pose.robust` for losses."""

from collections.abc import Callable

import torch
from torch import Tensor

# rho of squared, whitened residuals s and a scale k in standard deviations.
Kernel = Callable[[Tensor, float], Tensor]


def none(s: Tensor, k: float) -> Tensor:
    """Plain least squares; k is not used."""
    return s


def huber(s: Tensor, k: float) -> Tensor:
    """Huber (1964): quadratic up to k, linear beyond."""
    inlier = s <= k * k
    root = torch.where(inlier, k * k, s).sqrt()
    return torch.where(inlier, s, 2 * k * root - k * k)


def cauchy(s: Tensor, k: float) -> Tensor:
    """Cauchy: logarithmic growth, every residual keeps some pull."""
    return k * k * torch.log1p(s / (k * k))


def geman_mcclure(s: Tensor, k: float) -> Tensor:
    """Geman and McClure (1985): bounded cost, a gross outlier loses its pull."""
    return s / (1 + s / (k * k))


KERNELS: dict[str, Kernel] = {
    'none': none,
    'huber': huber,
    'cauchy': cauchy,
    'geman_mcclure': geman_mcclure,
}
