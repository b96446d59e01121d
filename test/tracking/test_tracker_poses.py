# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses and shapes of the tracker: convergence, calibration, disabled parts."""

from dataclasses import replace

import numpy as np
import pytest
from tracking.people import (
    NOISE,
    UNKNOWN,
    camera,
    chi_sq,
    new_tracker,
    pose,
    shape_of,
    watch,
)

from face_pose_ros.geometry import rotations
from face_pose_ros.options import FilterOptions, ShapeMemoryOptions, TrackingOptions
from face_pose_ros.results import DepthEvidence, Shape

CORRELATED = FilterOptions().correlated_noise_share
KNOWN = Shape(np.zeros(3), 1e-6 * np.eye(3))
RAW = TrackingOptions(filter_poses=False, remember_shape=False)


def test_a_memory_given_to_a_fit_of_somebody_else_does_no_harm(rng):
    """Followed from a, but it is b: what b is taught depends on the image alone."""
    means = []
    for prior_of in ('', 'f00001'):
        sensor = camera(np.random.default_rng(7))
        tracker = new_tracker()
        a, b = sensor.see(pose(0), [1, 1, 0]), sensor.see(pose(0.5), [-1, 0, 0])
        tracker.update([a, b], 0.0)
        tracker.advance(0.5)
        prior = shape_of(tracker, prior_of)
        error = np.array([0.2, -0.3, 0.1])
        face = sensor.see(pose(0.5), [-1, 0, 0], prior, prior_of, np.zeros(6), error)
        (again,) = tracker.update([face], 0.5)
        assert again.id == 'f00002'
        means.append(shape_of(tracker, 'f00002').mean[:2])
    # Identity alone; how it goes with the expression is where the two priors differ.
    np.testing.assert_allclose(*means, atol=0.02)


def test_a_face_that_a_depth_image_showed_uncovered_stays_more_certain(rng):
    """And one behind a beard or a hat stays less certain; the depth has gone."""
    sigma = []
    for measured, agreeing in [(0, 0), (90, 88), (90, 55)]:
        tracker, sensor = new_tracker(RAW), camera(np.random.default_rng(3))
        evidence = DepthEvidence(96, measured, agreeing, 1.0, 0.0)
        first = sensor.see(pose(0.1), prior=KNOWN)
        tracker.update([replace(first, depth=evidence)], 0.0)
        tracker.advance(0.3)
        (later,) = tracker.update([sensor.see(pose(0.1), prior=KNOWN)], 0.3)
        sigma.append(np.sqrt(later.covariance[3, 3]))
    assert sigma[1] < 0.9 * sigma[0]
    assert sigma[2] > 1.2 * sigma[0]


def test_metres_settle(rng):
    """Large faces, 8 %: depth starts wrong by that and ends right, and the covariance says so."""
    start, end, nees = [], [], []
    options = TrackingOptions(
        correlated_noise_share=0, shape=ShapeMemoryOptions(shared_variance=0)
    )
    for _ in range(8):
        sensor = camera(rng, information=(1.0, 1.0, 30.0))
        people = {'a': (lambda t: pose(0.2, z=1.5), [8 / 5.5, 0, 0])}
        run = [
            f['a'] for _, f in watch(new_tracker(options), sensor, np.arange(0, 30, 0.4), people)
        ]
        depth = [face.T_cam_head[2, 3] - 1.5 for face in run]
        start.append(depth[0])
        end.append(depth[-1])
        sigma = [np.sqrt(face.covariance[2, 2]) for face in run]
        assert sigma[0] > 1.5 * sigma[-1]
        nees += [
            chi_sq(rotations.difference(face.T_cam_head, pose(0.2, z=1.5)), face.covariance)
            for face in run[10:]
        ]
    assert np.mean(start) < -0.03
    assert np.abs(end).max() < 0.045  # 3 %
    assert np.mean(nees) < 7


def test_published_poses_are_honest(rng):
    """NEES over people of all shapes, whose fits have a bias that lasts, while they move."""
    nees = []
    for _ in range(30):
        sensor = camera(rng)
        shape, bias = rng.standard_normal(3) * [1, 1, 0], sensor.bias(CORRELATED)
        sway = rng.uniform(0.3, 1.0)
        tracker = new_tracker()
        shape_bias = sensor.normal(np.linalg.inv(sensor.shape_information))
        prior_of = ''
        for stamp_s in np.arange(0, 1, 1 / 15):
            tracker.advance(stamp_s)
            prior = shape_of(tracker, prior_of)
            x = 0.05 * np.sin(2 * np.pi * sway * stamp_s)
            T = pose(x, turn=(0, 3 * x, 0))
            pose_error = bias + sensor.bias(1 - CORRELATED)
            seen = sensor.see(T, shape, prior, prior_of, pose_error, shape_bias)
            (face,) = tracker.update([seen], stamp_s)
            prior_of = face.id
            nees.append(chi_sq(rotations.difference(face.T_cam_head, T), face.covariance))
    assert np.mean(nees) == pytest.approx(6, rel=0.15)


def test_a_converging_size_is_no_motion(sensor, tracker):
    """When memory corrects the size, the filter moves along instead of seeing a speed."""
    people = {'a': (lambda t: pose(0.2, z=1.5), [2.5, 0, 0])}
    sharp = camera(sensor.rng, noise=1e-2 * NOISE, information=(2.0, 1.0, 30.0))
    for _ in watch(tracker, sharp, np.arange(0, 6, 0.25), people):
        for person in tracker.state()['people']:
            assert np.abs(person['filter']['velocity'][:3]).max() < 0.02


def test_filter_off_gives_poses_as_measured(sensor):
    options = TrackingOptions(filter_poses=False)
    tracker, memoryless = new_tracker(options), new_tracker(RAW)
    for i in range(5):
        face = sensor.see(pose(0.1 * i))
        (raw,) = memoryless.update([face], 0.1 * i)
        np.testing.assert_allclose(raw.T_cam_head, face.T_cam_head, atol=1e-12)
        np.testing.assert_allclose(raw.covariance, face.covariance, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(raw.shape, face.shape, atol=1e-12)
        np.testing.assert_allclose(raw.shape_covariance, face.shape_covariance, atol=1e-12)
        (given,) = tracker.update([face], 0.1 * i)
        assert raw.id == given.id == 'f00001'
    # With memory, the pose is that of the fit for the remembered shape.
    moved = face.fit.pose_of_shape @ (given.shape - face.shape)
    np.testing.assert_allclose(
        rotations.difference(face.T_cam_head, given.T_cam_head), moved, atol=1e-6
    )
    assert given.covariance[2, 2] < raw.covariance[2, 2]


def test_memory_off_gives_shapes_as_measured_and_filters(sensor):
    tracker = new_tracker(TrackingOptions(remember_shape=False))
    error, filtered_error = [], []
    for i in range(60):
        face = sensor.see(pose(0))
        (filtered,) = tracker.update([face], i / 30)
        np.testing.assert_allclose(filtered.shape, face.shape, atol=1e-12)
        error.append(rotations.difference(pose(0), face.T_cam_head))
        filtered_error.append(rotations.difference(pose(0), filtered.T_cam_head))
    np.testing.assert_array_equal(shape_of(tracker, 'f00001').mean, UNKNOWN.mean)
    np.testing.assert_array_equal(shape_of(tracker, 'f00001').covariance, UNKNOWN.covariance)
    ratio = np.std(filtered_error[10:], 0) / np.std(error[10:], 0)
    assert (ratio < 1).all()
    assert ratio[2] < 0.9
