# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How robust kernels spread and curve under normal noise; src/robust.hpp has the kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from face_pose_ros import _core
from face_pose_ros.options import KERNELS


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
    values = np.array([_core.robust_kernel(index, k, x) for x in s.tolist()])
    w, slope = values[:, 1], values[:, 2]
    mean_weight = probability @ w
    return Efficiency(
        alpha=float(probability @ (w * w * s) / (dimensions * mean_weight)),
        beta=float(probability @ (w + 2 / dimensions * s * slope) / mean_weight),
    )
