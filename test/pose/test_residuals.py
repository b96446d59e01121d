"""Zero at the truth, whitened, and with the derivatives they claim."""

import pytest
import torch
from face_pose_ros.pose.residuals import PosePrior
from helpers.cameras import DISTORTIONS, make_camera
from helpers.problems import estimate, make_problem
from helpers.scene import isotropic, observe, random_poses

from face_pose_ros.geometry import robust, se3, so3
from face_pose_ros.results import Keypoints


@pytest.mark.parametrize('name', DISTORTIONS)
def test_cost_and_gradient_vanish_at_the_truth(name, rigid, generator):
    camera = make_camera(name)
    T = random_poses(5, camera, generator)
    problem = make_problem(rigid, camera, observe(rigid.xyz_head, T, camera))
    system = problem.normal_equations(estimate(T, T.new_zeros(5, 0)))
    assert system.cost.max() < 1e-18
    assert system.g.abs().max() < 1e-6


@pytest.mark.parametrize('kernel', robust.KERNELS)
@pytest.mark.parametrize('name', DISTORTIONS)
def test_gradient_agrees_with_autograd(name, kernel, wavy, generator):
    camera = make_camera(name)
    T = random_poses(3, camera, generator, distance_m=(0.4, 2.0))
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=4, generator=generator)
    nearby = so3.exp(torch.tensor([0.05, -0.2, 0.1]).double())
    prior = PosePrior(
        se3.from_rt(nearby @ T[:, :3, :3], T[:, :3, 3] + 0.02),
        torch.diag(torch.tensor([1e-4, 2e-4, 3e-4, 0.01, 0.02, 0.03]).double()).expand(3, 6, 6),
    )
    problem = make_problem(wavy, camera, keypoints, kernel, prior, independent=40)
    x = estimate(T, 0.3 * torch.randn(3, len(wavy.modes), generator=generator).double())
    delta = torch.zeros(3, 6 + len(wavy.modes), dtype=torch.float64, requires_grad=True)
    cost = problem.normal_equations(x.step(delta)).cost
    (gradient,) = torch.autograd.grad(cost.sum(), delta)
    torch.testing.assert_close(problem.normal_equations(x).g, gradient, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_a_small_error_is_whitened_through_the_lens(name, rigid, generator):
    """An error in pixels has the Mahalanobis length of its covariance."""
    camera = make_camera(name)
    T = random_poses(4, camera, generator, distance_m=(0.6, 2))
    truth = observe(rigid.xyz_head, T, camera)
    root = torch.randn(4, 468, 2, 2, generator=generator).double() + 2 * torch.eye(2).double()
    cov_uv = root @ root.mT
    error = 1e-3 * torch.randn(4, 468, 2, generator=generator).double()
    keypoints = Keypoints(truth.uv + error, cov_uv, truth.presence)
    residual, _ = make_problem(rigid, camera, keypoints).whitened_residuals(
        estimate(T, T.new_zeros(4, 0))
    )
    expected = (error * torch.linalg.solve(cov_uv, error)).sum(-1).sqrt()
    torch.testing.assert_close(residual.norm(dim=-1), expected, rtol=1e-3, atol=1e-9)


def test_hidden_keypoints_lose_information(rigid):
    camera = make_camera()
    frontal = torch.tensor([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]).double()
    turned = frontal @ so3.exp(torch.tensor([0, 0, 1.2]).double())  # the left cheek is hidden
    T = se3.from_rt(turned, torch.tensor([0.0, 0, 1]).double())[None]
    problem = make_problem(rigid, camera, observe(rigid.xyz_head, T, camera))
    kept = problem.weigh_visible(turned[None]).A.norm(dim=(-1, -2)) / problem.A.norm(dim=(-1, -2))
    right_cheek, left_cheek = kept[0, 234], kept[0, 454]
    assert {bool(right_cheek > 0.95), bool(left_cheek > 0.95)} == {True, False}
    assert torch.minimum(right_cheek, left_cheek) < 0.3


def test_redundant_keypoints_count_as_few(rigid, generator):
    camera = make_camera()
    T = random_poses(2, camera, generator, distance_m=(0.6, 2))
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=1, generator=generator)
    keypoints.cov_uv[1, 100:] = torch.inf
    x = estimate(T, T.new_zeros(2, 0))
    full = make_problem(rigid, camera, keypoints, independent=1e9).normal_equations(x)
    few = make_problem(rigid, camera, keypoints, independent=50).normal_equations(x)
    torch.testing.assert_close(
        few.H / full.H, torch.tensor([50 / 468, 0.5]).view(2, 1, 1).expand(2, 6, 6).double()
    )
    torch.testing.assert_close(few.cost / full.cost, torch.tensor([50 / 468, 0.5]).double())


@pytest.mark.parametrize(
    'cov',
    [
        [[torch.inf, 0], [0, torch.inf]],
        [[torch.nan, 0], [0, 1]],
        [[0, 0], [0, 1]],
        [[1, 2], [2, 1]],
        [[-1, 0], [0, -1]],
    ],
    ids=['infinite', 'nan', 'zero', 'indefinite', 'negative'],
)
def test_a_covariance_without_inverse_means_not_measured(cov, rigid, generator):
    camera = make_camera()
    T = random_poses(1, camera, generator, distance_m=(0.6, 2))
    keypoints = observe(rigid.xyz_head, T, camera)
    keypoints.cov_uv[0, 7] = torch.tensor(cov)
    problem = make_problem(rigid, camera, keypoints)
    assert not problem.measured[0, 7]
    assert problem.measured.sum() == 467
    assert problem.A[0, 7].abs().max() == 0
    assert problem.A.isfinite().all()


def test_isotropic_helper():
    torch.testing.assert_close(isotropic(torch.tensor([2.0])), 4 * torch.eye(2)[None])
