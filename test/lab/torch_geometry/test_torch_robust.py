"""Robust kernels: the weight is the derivative of the cost."""

import pytest
import torch
from face_pose_lab.torch_geometry.robust import KERNELS, efficiency


@pytest.mark.parametrize('name', KERNELS)
def test_weight_is_the_derivative_of_the_cost(name):
    s = torch.tensor([0.0, 0.3, 1.9, 4.1, 9.0, 400.0], dtype=torch.float64, requires_grad=True)
    rho, weight, _ = KERNELS[name](s, 1.7)
    (derivative,) = torch.autograd.grad(rho.sum(), s)
    torch.testing.assert_close(weight.expand_as(s), derivative)
    assert rho[0] == 0


@pytest.mark.parametrize('name', KERNELS)
def test_small_residuals_count_in_full(name):
    s = torch.tensor([1e-9], dtype=torch.float64)
    rho, weight, _ = KERNELS[name](s, 2.3)
    torch.testing.assert_close(rho, s, rtol=1e-8, atol=0)
    torch.testing.assert_close(weight, torch.ones_like(s), rtol=1e-8, atol=0)


def test_gross_outliers_lose_their_pull():
    s = torch.tensor([1e6], dtype=torch.float64)
    pulls = {name: (KERNELS[name](s, 2.0)[1] * s.sqrt()).item() for name in KERNELS}
    assert pulls['none'] > pulls['huber'] > pulls['cauchy'] > pulls['geman_mcclure']


@pytest.mark.parametrize('name', KERNELS)
def test_slope_is_the_derivative_of_the_weight(name):
    s = torch.linspace(0.1, 60, 300, dtype=torch.float64, requires_grad=True)
    _, weight, slope = KERNELS[name](s, 2.0)
    (expected,) = torch.autograd.grad((weight + 0 * s).sum(), s)
    torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize('name', KERNELS)
def test_efficiency_is_that_of_normal_noise(name, generator):
    residual = torch.randn(2_000_000, 2, generator=generator, dtype=torch.float64)
    s = residual.square().sum(-1)
    _, weight, slope = KERNELS[name](s, 3.0)
    alpha, beta = efficiency(KERNELS[name], 3.0)
    assert float((weight**2 * s / 2).mean() / weight.mean()) == pytest.approx(alpha, rel=5e-3)
    assert float((weight + s * slope).mean() / weight.mean()) == pytest.approx(beta, rel=5e-3)
