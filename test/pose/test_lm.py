# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The residuals: zero at the truth, whitened, with correct derivatives."""

import numpy as np
import pytest
from helpers.cameras import DISTORTIONS, make_camera
from helpers.heads import frontal, observe, random_poses
from pose.solver import lowered, stages, system

from face_pose_ros.geometry import rotations
from face_pose_ros.options import KERNELS
from face_pose_ros.results import Keypoints


@pytest.mark.parametrize('name', DISTORTIONS)
def test_cost_and_gradient_vanish_at_the_truth(name, rigid, rng):
    camera = make_camera(name)
    for T in random_poses(5, camera, rng):
        cost, _, g = system(rigid, camera, observe(rigid.xyz_head, T[None], camera), T, [])
        assert cost < 1e-18
        assert np.abs(g).max() < 1e-6


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('name', DISTORTIONS)
def test_the_gradient_agrees_with_finite_differences(name, kernel, wavy, rng):
    camera = make_camera(name)
    T = random_poses(1, camera, rng, distance_m=(0.4, 2.0))
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=4, rng=rng)
    c = 0.3 * rng.standard_normal(len(wavy.modes))

    def cost(delta):
        moved = rotations.moved(T[0], delta[:6])
        return system(wavy, camera, keypoints, moved, c + delta[6:], kernel, information=0.3)[0]

    steps = 1e-6 * np.eye(6 + len(c))
    expected = np.array([(cost(step) - cost(-step)) / 2e-6 for step in steps])
    g = system(wavy, camera, keypoints, T[0], c, kernel, information=0.3)[2]
    np.testing.assert_allclose(g, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize('name', ['thin_prism_12', 'equidistant'])
def test_the_hessian_is_that_of_the_cost_where_residuals_are_small(name, wavy, rng):
    """Gauss and Newton's, of the keypoints alone."""
    camera = make_camera(name)
    T = random_poses(1, camera, rng, distance_m=(0.4, 2.0))
    keypoints = observe(wavy.xyz_head, T, camera)
    c = np.zeros(len(wavy.modes))

    def gradient(delta):
        return system(wavy, camera, keypoints, rotations.moved(T[0], delta[:6]), c + delta[6:])[2]

    steps = 1e-6 * np.eye(6 + len(c))
    expected = np.array([(gradient(step) - gradient(-step)) / 2e-6 for step in steps])
    expected[6:, 6:] -= np.eye(len(c))
    H = system(wavy, camera, keypoints, T[0], c)[1]
    scale = np.sqrt(np.outer(np.diag(H), np.diag(H)))
    np.testing.assert_allclose(H / scale, expected / scale, rtol=0, atol=1e-5)


def test_no_step_ever_raises_the_cost(wavy, rng):
    """From starts anywhere, where undamped steps overshoot."""
    camera = make_camera('plumb_bob_5')
    for _ in range(20):
        T, start = random_poses(2, camera, rng, distance_m=(0.5, 2))
        keypoints = observe(wavy.xyz_head, T[None], camera)
        costs = np.array([lowered(wavy, camera, keypoints, start, i) for i in range(12)])
        assert (np.diff(costs) <= 1e-9 * costs[:-1] + 1e-12).all()
        assert costs[-1] < costs[0]


@pytest.mark.parametrize('name', DISTORTIONS)
def test_a_small_error_is_whitened_through_the_lens(name, rigid, rng):
    """An error in pixels has the Mahalanobis length of its covariance."""
    camera = make_camera(name)
    T = random_poses(1, camera, rng, distance_m=(0.6, 2))
    truth = observe(rigid.xyz_head, T, camera)
    root = rng.standard_normal((1, 468, 2, 2)) + 2 * np.eye(2)
    cov_uv = root @ root.swapaxes(-1, -2)
    error = 1e-3 * rng.standard_normal((1, 468, 2))
    cost, _, _ = system(rigid, camera, Keypoints(truth.uv + error, cov_uv, np.ones(1)), T[0], [])
    expected = 0.5 * (error * np.linalg.solve(cov_uv, error[..., None])[..., 0]).sum()
    assert cost == pytest.approx(expected, rel=1e-3)


def test_hidden_keypoints_lose_information(rigid):
    camera = make_camera()
    T = frontal((0, 0, 1))
    T[:3, :3] = T[:3, :3] @ rotations.exp([0, 0, 1.2])  # the left cheek is hidden
    keypoints = observe(rigid.xyz_head, T[None], camera)
    face = stages(rigid, camera, keypoints)
    norms = [np.linalg.norm(A, axis=(0, 1)) for A in (face.visible_A(T), face.A())]
    right_cheek, left_cheek = (norms[0] / norms[1])[[234, 454]]
    assert {bool(right_cheek > 0.95), bool(left_cheek > 0.95)} == {True, False}
    assert min(right_cheek, left_cheek) < 0.3


@pytest.mark.parametrize(
    'cov',
    [
        [[np.inf, 0], [0, np.inf]],
        [[np.nan, 0], [0, 1]],
        [[0, 0], [0, 1]],
        [[1, 2], [2, 1]],
        [[-1, 0], [0, -1]],
    ],
    ids=['infinite', 'nan', 'zero', 'indefinite', 'negative'],
)
def test_a_covariance_without_inverse_means_not_measured(cov, rigid, rng):
    camera = make_camera()
    T = random_poses(1, camera, rng, distance_m=(0.6, 2))
    keypoints = observe(rigid.xyz_head, T, camera)
    keypoints.cov_uv[0, 7] = cov
    face = stages(rigid, camera, keypoints)
    A, weight = face.A(), face.weight()
    assert weight[7] == 0
    assert (weight > 0).sum() == 467
    assert np.abs(A[..., 7]).max() == 0
    assert np.isfinite(A).all()
