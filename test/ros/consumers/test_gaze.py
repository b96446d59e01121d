# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The probability of being looked at, against simulation."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from face_pose_ros.ros.consumers.gaze import probability_in_cone

R_CAM_HEAD_FACING = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
CONE = np.radians(15)


def head(t, turn=(0.0, 0.0, 0.0)):
    """Pose of a head at t [m] that faces along -z, then turned about the camera's axes [rad]."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(turn).as_matrix() @ R_CAM_HEAD_FACING
    T[:3, 3] = t
    return T


def covariance(rng, sigma_m, sigma_deg):
    """A covariance with the given standard deviations and any correlations."""
    A = rng.normal(size=(6, 8))
    correlation = np.corrcoef(A)
    sigma = np.r_[np.broadcast_to(sigma_m, 3), np.radians(np.broadcast_to(sigma_deg, 3))]
    return correlation * np.outer(sigma, sigma)


def simulated(T, cov, point, rng, n=100_000):
    """The same probability by drawing poses as docs/conventions.md defines their error."""
    error = rng.multivariate_normal(np.zeros(6), cov, size=n)
    forward = Rotation.from_rotvec(error[:, 3:]).apply(T[:3, 0])
    to_point = point - (T[:3, 3] + error[:, :3])
    to_point /= np.linalg.norm(to_point, axis=1, keepdims=True)
    return np.mean(np.einsum('ni,ni->n', forward, to_point) > np.cos(CONE))


@pytest.mark.parametrize(('sigma_deg', 'tolerance'), [(1.0, 0.02), (4.5, 0.02), (15.0, 0.05)])
def test_agrees_with_simulation(sigma_deg, tolerance):
    rng = np.random.default_rng(5)
    differences, probabilities = [], []
    for _ in range(25):
        z = rng.uniform(0.5, 3.0)
        t = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), 1.0]) * z
        T = head(t, rng.normal(size=3) * np.radians(15))
        cov = covariance(rng, z * np.array([0.003, 0.003, 0.06]), sigma_deg)
        point = rng.normal(size=3) * 0.2
        probabilities.append(probability_in_cone(T, cov, point, CONE))
        differences.append(probabilities[-1] - simulated(T, cov, point, rng))
    assert np.abs(differences).max() < tolerance
    assert min(probabilities) < 0.2  # what was tested lies on both sides
    assert max(probabilities) > 0.25


def test_an_error_of_the_position_counts_more_nearby():
    rng = np.random.default_rng(1)
    cov = np.diag([0.1**2, 0.1**2, 0.1**2, 0, 0, 0])
    for z in (0.5, 2.0):
        T = head([0, 0, z])
        probability = probability_in_cone(T, cov, np.zeros(3), CONE)
        assert probability == pytest.approx(simulated(T, cov, np.zeros(3), rng), abs=0.05)
    assert probability > 0.99  # 0.1 m at 2 m are 3 deg


@pytest.mark.parametrize(
    ('turn_deg', 'expected'), [(0, 1.0), (14, 1.0), (16, 0.0), (90, 0.0), (180, 0.0)]
)
@pytest.mark.parametrize('axis', [0, 1])
def test_an_exact_pose_is_yes_or_no(turn_deg, expected, axis):
    T = head([0.0, 0.0, 1.5], np.radians(turn_deg) * np.eye(3)[axis])
    assert probability_in_cone(T, np.zeros((6, 6)), np.zeros(3), CONE) == pytest.approx(expected)


def test_roll_and_its_error_do_not_matter():
    cov = np.diag([0, 0, 0, 0.0, 0.0, 1.0])
    T = head([0.0, 0.0, 1.5], [0.0, 0.0, 1.2])
    assert probability_in_cone(T, cov, np.zeros(3), CONE) == pytest.approx(1.0)


def test_a_target_beside_the_camera():
    # Turned 20 deg about the camera's y axis, the head points at x = -1.5 tan 20 deg.
    T = head([0.0, 0.0, 1.5], [0.0, np.radians(20), 0.0])
    point = [-1.5 * np.tan(np.radians(20)), 0.0, 0.0]
    assert probability_in_cone(T, np.zeros((6, 6)), point, CONE) == pytest.approx(1.0)
    assert probability_in_cone(T, np.zeros((6, 6)), np.negative(point), CONE) == 0.0
