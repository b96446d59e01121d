"""Robust kernels: cost and weight of a squared, whitened residual.

For squared residual s and scale k (in standard deviations) a kernel gives rho(s), which replaces
s in the cost, and w(s) = d rho / d s, the weight of iteratively re-weighted least squares.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Kernel = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def none(s: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """Plain least squares; k is not used."""
    return s, torch.ones_like(s)


def huber(s: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """Huber (1964): quadratic up to k, linear beyond."""
    inlier = s <= k * k
    root = torch.where(inlier, torch.full_like(s, k * k), s).sqrt()
    return torch.where(inlier, s, 2 * k * root - k * k), torch.where(inlier, 1.0, k / root)


def cauchy(s: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """Cauchy: logarithmic growth, every residual keeps some pull."""
    z = s / (k * k)
    return k * k * torch.log1p(z), 1 / (1 + z)


def geman_mcclure(s: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """Geman and McClure (1985): bounded cost, a gross outlier loses its pull."""
    inv = 1 / (1 + s / (k * k))
    return s * inv, inv * inv


KERNELS: dict[str, Kernel] = {
    'none': none,
    'huber': huber,
    'cauchy': cauchy,
    'geman_mcclure': geman_mcclure,
}
