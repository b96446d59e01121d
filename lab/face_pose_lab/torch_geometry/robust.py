"""Robust kernels: cost, weight and slope of a squared, whitened residual.

For squared residual s and scale k (in standard deviations) a kernel gives rho(s), which replaces
s in the cost, w(s) = d rho / d s, the weight of iteratively re-weighted least squares, and
w'(s) = d w / d s, which the covariance of an M-estimator needs.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Median of the squared length of two independent standard normal numbers.
NORMAL_MEDIAN = 2 * math.log(2)


class KernelValues(NamedTuple):
    """A kernel at squared residuals of any shape."""

    rho: Tensor
    weight: Tensor
    slope: Tensor


Kernel = Callable[[Tensor, Tensor | float], KernelValues]  # k is broadcast against s


def none(s: Tensor, k: Tensor | float) -> KernelValues:
    """Plain least squares; k is not used."""
    return KernelValues(s, torch.ones_like(s), torch.zeros_like(s))


def huber(s: Tensor, k: Tensor | float) -> KernelValues:
    """Huber (1964): quadratic up to k, linear beyond."""
    inlier = s <= k * k
    root = torch.where(inlier, k * k, s).sqrt()
    rho = torch.where(inlier, s, 2 * k * root - k * k)
    slope = torch.where(inlier, 0.0, -0.5 * k / root**3)
    return KernelValues(rho, torch.where(inlier, 1.0, k / root), slope)


def cauchy(s: Tensor, k: Tensor | float) -> KernelValues:
    """Cauchy: logarithmic growth, every residual keeps some pull."""
    z = s / (k * k)
    weight = 1 / (1 + z)
    return KernelValues(k * k * torch.log1p(z), weight, -weight * weight / (k * k))


def geman_mcclure(s: Tensor, k: Tensor | float) -> KernelValues:
    """Geman and McClure (1985): bounded cost, a gross outlier loses its pull."""
    inv = 1 / (1 + s / (k * k))
    return KernelValues(s * inv, inv * inv, -2 / (k * k) * inv**3)


KERNELS: dict[str, Kernel] = {
    'none': none,
    'huber': huber,
    'cauchy': cauchy,
    'geman_mcclure': geman_mcclure,
}


class Efficiency(NamedTuple):
    """How an M-estimator's gradient and Hessian relate to its weights, per unit of weight.

    Its covariance is alpha / beta^2 * (sum of w J^T J)^-1 (Huber 1981, chapter 7.6, in 2-D).
    """

    alpha: float  # E[w^2 s / 2] / E[w]: variance of the gradient
    beta: float  # E[w + s w'] / E[w]: expected Hessian


@lru_cache
def efficiency(kernel: Kernel, k: float) -> Efficiency:
    """The kernel's values for 2-D residuals that are normal with unit variance.

    s is then exponential with mean 2, and Gauss-Laguerre quadrature gives the expectations.
    """
    nodes, weights = np.polynomial.laguerre.laggauss(64)
    s = torch.from_numpy(2 * nodes)
    probability = torch.from_numpy(weights)
    _, w, slope = kernel(s, k)
    mean_weight = float(probability @ w)
    return Efficiency(
        alpha=float(probability @ (w * w * s)) / (2 * mean_weight),
        beta=float(probability @ (w + s * slope)) / mean_weight,
    )
