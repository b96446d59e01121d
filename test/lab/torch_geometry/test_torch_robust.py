# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Robust kernels in torch have the runtime's cost, weight and slope."""

import pytest
import torch
from face_pose_lab.torch_geometry.robust import KERNELS

from face_pose_ros import _core, options


def test_every_kernel_of_the_runtime_is_there():
    assert tuple(KERNELS) == options.KERNELS


@pytest.mark.parametrize('name', KERNELS)
def test_cost_and_derivatives_are_those_of_the_runtime(name):
    k = 1.7
    s = torch.tensor([0.0, 1e-9, 0.3, 1.9, 4.1, 9.0, 400.0, 1e6], dtype=torch.float64)
    s.requires_grad_()
    rho = KERNELS[name](s, k)
    (weight,) = torch.autograd.grad(rho.sum(), s, create_graph=True)
    (slope,) = torch.autograd.grad((weight + 0 * s).sum(), s)
    expected = [_core.robust_kernel(options.KERNELS.index(name), k, x) for x in s.tolist()]
    for found, column in zip((rho, weight, slope), zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(found, found.new_tensor(column), rtol=1e-9, atol=1e-15)
