# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pose filter: consistent where its model holds, bounded where it does not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2
from tracking.people import NOISE, camera, chi_sq, pose

from face_pose_ros._core import GATE, PoseFilter, PoseState
from face_pose_ros.geometry import rotations
from face_pose_ros.options import FilterOptions

WHITE = FilterOptions(correlated_noise_share=0)


def jerky(options, state, stamps, rng, steps=10):
    """Poses of a head that does what the filter believes: white acceleration, in small steps."""
    noise = np.repeat([options.acceleration_noise, options.angular_acceleration_noise], 3)
    T, velocity, poses = state.T_cam_head, state.velocity, []
    for dt in np.diff(stamps, prepend=state.stamp_s) / steps:
        for _ in range(steps):
            change = noise * np.sqrt(dt) * rng.standard_normal(6)
            T = rotations.moved(T, dt * (velocity + change / 2))
            velocity = velocity + change
        poses.append((T, velocity))
    return poses


def test_prediction_is_the_motion_at_constant_velocity():
    velocity = np.array([0.3, -0.2, 0.1, 1, 2, -0.5])
    state = PoseState(pose(0.1), velocity, 1e-4 * np.eye(12), 5.0)
    later = state.predicted(5.25, WHITE)
    np.testing.assert_allclose(
        rotations.difference(state.T_cam_head, later.T_cam_head), 0.25 * velocity, atol=1e-12
    )
    assert later.stamp_s == 5.25
    # In two steps as in one.
    twice = state.predicted(5.1, WHITE).predicted(5.25, WHITE)
    np.testing.assert_allclose(twice.T_cam_head, later.T_cam_head, atol=1e-12)
    sigma = np.sqrt(np.diag(later.covariance))
    np.testing.assert_allclose(
        twice.covariance / np.outer(sigma, sigma),
        later.covariance / np.outer(sigma, sigma),
        atol=0.02,
    )


def test_predicted_covariance_is_that_of_many_heads(rng):
    """Prediction over a turn of 45 deg, against Monte Carlo."""
    half = np.diag(np.r_[[0.01] * 3, [0.05] * 3, [0.1] * 3, [0.4] * 3])
    start = half @ (np.eye(12) + 0.3) @ half
    state = PoseState(pose(0.1), np.array([0.3, 0, 0.1, 1, -2.5, 0]), start, 0.0)
    predicted = state.predicted(0.3, WHITE)
    L = np.linalg.cholesky(start)
    errors = []
    for _ in range(1200):
        e = L @ rng.standard_normal(12)
        true = PoseState(
            rotations.moved(state.T_cam_head, e[:6]), state.velocity + e[6:], start, 0.0
        )
        ((T, velocity),) = jerky(WHITE, true, [0.3], rng, steps=8)
        errors.append(
            np.r_[rotations.difference(predicted.T_cam_head, T), velocity - predicted.velocity]
        )
    whitened = np.linalg.solve(np.linalg.cholesky(predicted.covariance), np.array(errors).T)
    np.testing.assert_allclose(whitened @ whitened.T / len(errors), np.eye(12), atol=0.15)


def test_nees(rng):
    """Error over covariance, of pose and of the whole state, on irregular stamps with gaps."""
    pose_nees, state_nees = [], []
    for _ in range(70):
        stamps = np.cumsum(rng.choice([0.03, 0.04, 0.1, 0.3], size=20))
        moving = 0.5 * rng.standard_normal(6) * np.repeat([1, 3], 3)
        poses = jerky(WHITE, PoseState(pose(0.2), moving, np.eye(12), 0.0), stamps, rng)
        sensor = camera(rng)
        head = PoseFilter(
            rotations.moved(poses[0][0], sensor.normal(NOISE)), NOISE, stamps[0], WHITE
        )
        for stamp_s, (T, velocity) in zip(stamps[1:], poses[1:], strict=True):
            head.update(rotations.moved(T, sensor.normal(NOISE)), NOISE, stamp_s)
            state = head.state
            error = np.r_[rotations.difference(state.T_cam_head, T), velocity - state.velocity]
            pose_nees.append(chi_sq(error[:6], state.covariance[:6, :6]))
            state_nees.append(chi_sq(error, state.covariance))
    assert np.mean(pose_nees) == pytest.approx(6, rel=0.05)
    assert np.mean(state_nees) == pytest.approx(12, rel=0.05)


def test_the_correlated_noise_is_not_averaged_away(rng):
    """Half of the noise's variance is a bias per person: the published covariance includes it."""
    calm = FilterOptions(acceleration_noise=0.1, angular_acceleration_noise=0.3)
    nees = {0.5: [], 0: []}
    for _ in range(40):
        sensor, T = camera(rng), pose(0.2)
        bias = sensor.bias(0.5)
        seen = [rotations.moved(T, bias + sensor.bias(0.5)) for _ in range(20)]
        for share, values in nees.items():
            head = PoseFilter(seen[0], NOISE, 0.0, replace(calm, correlated_noise_share=share))
            for i, measured in enumerate(seen[1:], 1):
                filtered, covariance = head.update(measured, NOISE, i / 30)
                values.append(chi_sq(rotations.difference(filtered, T), covariance))
    assert np.mean(nees[0.5]) == pytest.approx(6, rel=0.2)
    assert np.mean(nees[0]) > 9


# What fits of real faces claim at a metre, and the share of it that differs from image to image.
CLAIMED = np.diag(np.r_[0.0016, 0.0016, 0.02, np.deg2rad([2.7, 2.7, 1.1])]) ** 2
JITTER = 0.03


def nod(rng, frequency_hz, amplitude, fps, options=None):
    """Measured against filtered pitch and depth of a head that nods: rms each, lag [s]."""
    sensor = camera(rng, JITTER * CLAIMED)
    stamps = np.arange(0, 12, 1 / fps)
    angle = amplitude * np.sin(2 * np.pi * frequency_hz * stamps)
    truth = [pose(0.2, turn=(a, 0, 0)) for a in angle]
    measured = [rotations.moved(T, sensor.normal(sensor.noise)) for T in truth]
    head = PoseFilter(measured[0], CLAIMED, 0.0, options or FilterOptions())
    filtered = [measured[0]] + [
        head.update(T, CLAIMED, s)[0] for T, s in zip(measured[1:], stamps[1:], strict=True)
    ]
    truth, measured, filtered = (np.array(a)[fps:] for a in (truth, measured, filtered))
    raw = np.std(rotations.difference(truth, measured), 0)[[3, 2]]
    rest = np.std(rotations.difference(truth, filtered), 0)[[3, 2]]
    still = np.broadcast_to(pose(0.2), filtered.shape)
    phase = 2 * np.pi * frequency_hz * stamps[fps:]
    A = np.stack([np.sin(phase), np.cos(phase)], -1)
    sine, cosine = np.linalg.lstsq(A, rotations.difference(still, filtered)[:, 3], rcond=None)[0]
    lag_s = -np.arctan2(cosine, sine) / (2 * np.pi * frequency_hz)
    return rest / raw, lag_s


@pytest.mark.parametrize('fps', [10, 30])
def test_a_nodding_head_is_followed_without_lag(rng, fps):
    (pitch, depth), lag_s = nod(rng, 1.0, np.deg2rad(20), fps)
    assert abs(lag_s) < 0.001
    assert pitch < 1.08
    assert depth < 1


def test_a_violent_nod_is_followed(rng):
    (pitch, _), lag_s = nod(rng, 2.0, np.deg2rad(15), 30)
    assert abs(lag_s) < 0.003
    assert pitch < 1.5


def test_a_still_head_is_smoothed(rng):
    ratio, _ = nod(rng, 1.0, 0.0, 30)
    assert (ratio < 0.92).all()
    calm = FilterOptions(acceleration_noise=0.1, angular_acceleration_noise=0.3)
    ratio, _ = nod(rng, 1.0, 0.0, 30, calm)
    assert (ratio < 0.65).all()


def settled():
    """A head that moves right at 0.3 m/s and turns at 0.5 rad/s, seen for a second until t = 1."""
    motion = np.array([0.3, 0, 0, 0, 0.5, 0])
    head = PoseFilter(pose(0), NOISE, 0.0, FilterOptions())
    for stamp_s in np.arange(1, 31) / 30:
        head.update(rotations.moved(pose(0), stamp_s * motion), NOISE, float(stamp_s))
    return head, motion


def test_velocity_is_learned_and_a_prediction_changes_nothing():
    head, motion = settled()
    before = head.state
    np.testing.assert_allclose(before.velocity, motion, atol=0.02)
    predicted = head.predict(1.4)
    moved = rotations.difference(rotations.moved(pose(0), 1.4 * motion), predicted.T_cam_head)
    np.testing.assert_allclose(moved, 0, atol=0.01)
    for name in ('T_cam_head', 'velocity', 'covariance', 'stamp_s'):
        np.testing.assert_array_equal(getattr(head.state, name), getattr(before, name))


def test_predictions_end_at_the_gap():
    head, _ = settled()
    a, b = head.predict(1.5), head.predict(30.0)
    assert a.T_cam_head[0, 3] > head.state.T_cam_head[0, 3] + 0.1
    np.testing.assert_allclose(a.T_cam_head, b.T_cam_head)
    np.testing.assert_allclose(a.covariance, b.covariance)


@pytest.mark.parametrize('stamp_s', [1.6, 100.0, 0.9, -5.0])
def test_a_gap_or_a_step_back_in_time_starts_afresh(stamp_s):
    head, _ = settled()
    T, covariance = head.update(pose(2.0), NOISE, stamp_s)
    np.testing.assert_array_equal(T, pose(2.0))
    np.testing.assert_allclose(covariance, NOISE)
    np.testing.assert_array_equal(head.state.velocity, 0)
    assert head.state.stamp_s == stamp_s


def test_the_same_stamp_again_is_averaged_without_motion():
    head, _ = settled()
    before = head.state
    offset = np.array([0.001, 0, 0, 0, 0, 0])
    T, _ = head.update(rotations.moved(before.T_cam_head, offset), NOISE, 1.0)
    gain = rotations.difference(before.T_cam_head, T)[0] / 0.001
    P, R = before.covariance[0, 0], (1 - FilterOptions().correlated_noise_share) * NOISE[0, 0]
    assert gain == pytest.approx(P / (P + R), rel=0.01)
    assert head.state.covariance[0, 0] < before.covariance[0, 0]


def test_one_outlier_pulls_little_and_three_in_a_row_are_believed():
    head, motion = settled()
    wild = np.array([0.4, 0, 0.2, 0, 1.0, 0])
    away = []
    for i in (1, 2, 3):
        stamp_s = 1 + i / 30
        expected = rotations.moved(pose(0), stamp_s * motion)
        T, covariance = head.update(rotations.moved(expected, wild), NOISE, stamp_s)
        away.append(rotations.difference(expected, T)[0])
    assert 0 < away[0] < 0.02
    assert away[1] < 0.2
    assert away[2] == pytest.approx(0.4)
    np.testing.assert_allclose(covariance, NOISE)


def test_one_outlier_is_soon_forgotten():
    head, motion = settled()
    for i in range(1, 11):
        expected = rotations.moved(pose(0), (1 + i / 30) * motion)
        wild = [3, 0, 0, 0, 0, 2] if i == 1 else np.zeros(6)
        T, _ = head.update(rotations.moved(expected, np.array(wild)), NOISE, 1 + i / 30)
    assert np.abs(rotations.difference(expected, T)).max() < 0.01


def test_never_diverges(rng):
    """Whatever is measured whenever: finite, orthonormal, positive definite."""
    head = PoseFilter(pose(0), NOISE, 0.0, FilterOptions())
    stamp_s = 0.0
    for _ in range(500):
        stamp_s += rng.choice([-1.0, 0.0, 1e-9, 0.001, 0.03, 0.5, 3.0])
        scale = 10 ** rng.uniform(-3, 2)
        T, covariance = head.update(
            pose(*rng.normal(size=3), rng.normal(size=3) * 2), scale * NOISE, stamp_s
        )
        np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.isfinite(head.state.velocity).all()
        assert np.linalg.eigvalsh(head.state.covariance).min() > 0
        np.testing.assert_allclose(covariance, covariance.T, rtol=1e-6)


def test_a_shift_moves_the_pose_alone():
    head, _ = settled()
    before = head.state
    head.shift(np.array([0, 0, 0.1, 0, 0, 0.2]))
    delta = rotations.difference(before.T_cam_head, head.state.T_cam_head)
    np.testing.assert_allclose(delta, [0, 0, 0.1, 0, 0, 0.2], atol=1e-12)
    np.testing.assert_array_equal(head.state.velocity, before.velocity)
    np.testing.assert_array_equal(head.state.covariance, before.covariance)


@pytest.mark.parametrize(
    ('before_rad', 'measured_rad'),
    [([0.35, 0.35, 0.35], [0.35, 0.35, 0.35]), ([0.5, 0.5, 0.5], [0.02, 0.3, 0.02])],
)
def test_correction_of_a_large_rotation_keeps_the_covariance_right(rng, before_rad, measured_rad):
    """Errors of 30 deg, where the axes of the error before and after differ."""
    P = np.diag(np.r_[[0.01] * 3, before_rad, [0.1] * 6]) ** 2
    R = np.diag(np.r_[[0.001] * 3, measured_rad]) ** 2
    nees = []
    for _ in range(500):
        T = rotations.moved(pose(0), np.sqrt(np.diag(P))[:6] * rng.standard_normal(6))
        measured = rotations.moved(T, np.sqrt(np.diag(R)) * rng.standard_normal(6))
        after = PoseState(pose(0), np.zeros(6), P, 0.0).corrected(measured, R)
        nees.append(chi_sq(rotations.difference(after.T_cam_head, T), after.covariance[:6, :6]))
    assert np.mean(nees) == pytest.approx(6, rel=0.1)


@pytest.mark.parametrize('away_m', [0.5, 10.0, 1e6])
def test_an_outlier_counts_as_if_it_lay_on_the_gate(away_m):
    head, _ = settled()
    before = head.predict(1.05)
    outlier = rotations.moved(before.T_cam_head, np.array([away_m, 0, 0, 0, 1.0, 0]))
    head.update(outlier, NOISE, 1.05)
    innovation = rotations.difference(before.T_cam_head, outlier)
    pull = rotations.difference(before.T_cam_head, head.state.T_cam_head)
    # pull = P S^-1 innovation, so this is the squared distance innovation^T S^-1 innovation.
    distance_sq = innovation @ np.linalg.solve(before.covariance[:6, :6], pull)
    assert distance_sq == pytest.approx(chi2.ppf(1 - 1e-4, 6), rel=0.01)


def test_the_gate_is_that_of_one_measurement_in_ten_thousand():
    assert chi2.sf(GATE, 6) == pytest.approx(1e-4, rel=1e-3)
