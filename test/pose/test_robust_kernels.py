# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels: their weight and slope are derivatives, their efficiency is that of normal noise."""

import numpy as np
import pytest

from face_pose_ros import _core
from face_pose_ros.options import KERNELS
from face_pose_ros.pose.robust import efficiency


@pytest.mark.parametrize('kernel', range(len(KERNELS)), ids=KERNELS)
@pytest.mark.parametrize('s', [0.01, 1.0, 3.9, 4.1, 80.0])
def test_weight_and_slope_are_derivatives(kernel, s):
    _, weight, slope = _core.robust_kernel(kernel, 2.0, s)
    h = 1e-5 * s
    (rho_low, weight_low, _), (rho_high, weight_high, _) = (
        _core.robust_kernel(kernel, 2.0, x) for x in (s - h, s + h)
    )
    assert weight == pytest.approx((rho_high - rho_low) / (2 * h), rel=1e-6)
    assert slope == pytest.approx((weight_high - weight_low) / (2 * h), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize('kernel', KERNELS)
def test_efficiency_against_many_normal_residuals(kernel, rng):
    s = (rng.standard_normal((100_000, 2)) ** 2).sum(-1)
    values = np.array([_core.robust_kernel(KERNELS.index(kernel), 1.5, x) for x in s])
    w, slope = values[:, 1], values[:, 2]
    found = efficiency(kernel, 1.5)
    assert found.alpha == pytest.approx((w * w * s).mean() / (2 * w.mean()), rel=0.02)
    assert found.beta == pytest.approx((w + s * slope).mean() / w.mean(), rel=0.02)
