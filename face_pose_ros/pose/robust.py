# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Robust kernels: cost, weight and slope of a squared, whitened residual.

For a squared residual s and a scale k (in standard deviations) a kernel gives rho(s), which
replaces s in the cost, w(s) = d rho / d s, the weight of iteratively re-weighted least squares,
and w'(s) = d w / d s, which the covariance of an M-estimator needs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from face_pose_ros.geometry.jit import inner
from face_pose_ros.options import KERNELS

# Median of the squared length of two independent standard normal numbers.
NORMAL_MEDIAN = 2 * math.log(2)
_HUBER, _CAUCHY, _GEMAN_MCCLURE = (
    KERNELS.index(name) for name in ('huber', 'cauchy', 'geman_mcclure')
)


@inner
def robust_kernel(kernel, k, s):
    """rho, w and w' of one squared residual s >= 0.

    Args:
        kernel: Index into `options.KERNELS`: least squares; Huber (1964), quadratic up to k and
            linear beyond; Cauchy, logarithmic; Geman and McClure (1985), bounded.
        k: Scale, in standard deviations.
        s: Squared residual.
    """
    k_sq = k * k
    inv = 1 / (1 + s / k_sq)
    if kernel == _GEMAN_MCCLURE:
        return s * inv, inv * inv, -2 / k_sq * inv * inv * inv
    if kernel == _CAUCHY:
        return k_sq * math.log1p(s / k_sq), inv, -inv * inv / k_sq
    if kernel == _HUBER and s > k_sq:
        root = math.sqrt(s)
        return 2 * k * root - k_sq, k / root, -0.5 * k / (root * s)
    return s, 1.0, 0.0


class Efficiency(NamedTuple):
    """How an M-estimator's gradient and Hessian relate to its weights, per unit of weight.

    Its covariance is alpha / beta^2 * (sum of w J^T J)^-1 (Huber 1981, chapter 7.6, in 2-D).
    """

    alpha: float  # E[w^2 s / 2] / E[w]: variance of the gradient
    beta: float  # E[w + s w'] / E[w]: expected Hessian


@lru_cache
def efficiency(kernel: str, k: float, dimensions: int = 2) -> Efficiency:
    """The kernel's values for residuals that are normal with unit variance.

    In 2-D, s is then exponential with mean 2, and Gauss-Laguerre quadrature gives the
    expectations; in 1-D it is the square of a normal number, and Gauss-Hermite quadrature does.

    Args:
        kernel: One of `options.KERNELS`.
        k: Its scale, in standard deviations.
        dimensions: Of a residual, 2 or 1; s / 2 and s w' above become s / 1 and 2 s w'.
    """
    if dimensions == 2:
        nodes, probability = np.polynomial.laguerre.laggauss(64)
        s = 2 * nodes
    else:
        nodes, probability = np.polynomial.hermite_e.hermegauss(64)
        s, probability = nodes**2, probability / probability.sum()
    index = KERNELS.index(kernel)
    # In Python: 64 values are not worth machine code of their own.
    kernel_in_python = cast(Any, robust_kernel).py_func
    values = np.array([kernel_in_python(index, k, float(x)) for x in s])
    w, slope = values[:, 1], values[:, 2]
    mean_weight = probability @ w
    return Efficiency(
        alpha=float(probability @ (w * w * s) / (dimensions * mean_weight)),
        beta=float(probability @ (w + 2 / dimensions * s * slope) / mean_weight),
    )
