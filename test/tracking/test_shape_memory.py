# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Shape memory: consistent with its measurements, never over-confident."""

import numpy as np
import pytest
from tracking.people import EXPRESSIONS, UNKNOWN, camera, chi_sq, pose

from face_pose_ros import _core
from face_pose_ros.options import ShapeMemoryOptions
from face_pose_ros.results import Shape

IDENTITY = ~EXPRESSIONS
INDEPENDENT = ShapeMemoryOptions(shared_variance=0)
KNOWN = Shape(np.array([0.7, -0.4, 0]), np.diag([0.5, 0.3, 1]))
FRONT = np.array([1.0, 0, 0])


class ShapeMemory(_core.ShapeMemory):
    """With shapes as arguments and results."""

    @property
    def shape(self):
        return Shape(*super().shape)

    def update(self, fitted, prior):
        super().update(*fitted, *prior)


def memory(options=INDEPENDENT, prior=UNKNOWN, stamp_s=0.0):
    return ShapeMemory(*prior, EXPRESSIONS, stamp_s, options)


def fit(sensor, shape, prior=UNKNOWN, error=None):
    face = sensor.see(pose(0), shape, prior, shape_error=error)
    return Shape(face.shape, face.shape_covariance)


def side(yaw_deg):
    """Direction to a camera in the head frame."""
    yaw = np.deg2rad(yaw_deg)
    return np.array([np.cos(yaw), np.sin(yaw), 0])


def identity(shape):
    return Shape(shape.mean[IDENTITY], shape.covariance[np.ix_(IDENTITY, IDENTITY)])


def test_images_far_apart_add_up_to_the_batch_solution(rng):
    sensor, remembered = camera(rng), memory()
    S, shape = sensor.shape_information, np.array([1.2, -0.5, 0.8])
    information, vector = np.eye(2), np.zeros(2)
    for i in range(5):
        error = sensor.normal(np.linalg.inv(S))
        remembered.advance(100.0 * i)  # the expression of last time has faded
        prior = remembered.shape
        remembered.update(fit(sensor, shape, prior, error), prior)
        # Of the normal equations S c = S (shape + error), the expression N(0, 1) eliminated.
        follow = S[:2, 2] / (S[2, 2] + 1)
        information += S[:2, :2] - np.outer(follow, S[2, :2])
        right = S @ (shape + error)
        vector += right[:2] - follow * right[2]
    known = identity(remembered.shape)
    np.testing.assert_allclose(known.covariance, np.linalg.inv(information), rtol=1e-9)
    np.testing.assert_allclose(known.mean, np.linalg.solve(information, vector), rtol=1e-9)


def test_the_prior_of_a_fit_does_not_count_twice(rng):
    """Two fits of one image, with different priors, teach the same."""
    sensor = camera(rng)
    error = np.array([0.3, -0.2, 0.1])
    taught = []
    for prior in (UNKNOWN, KNOWN):
        remembered = memory(prior=UNKNOWN)
        remembered.update(fit(sensor, [1, 0.5, -0.3], prior, error), prior)
        taught.append(identity(remembered.shape))
    np.testing.assert_allclose(taught[0].mean, taught[1].mean, rtol=1e-9)
    np.testing.assert_allclose(taught[0].covariance, taught[1].covariance, rtol=1e-9)


def test_the_first_image_teaches_what_its_fit_says(rng):
    remembered, seen = memory(), fit(camera(rng), [0.5, -0.2, 0.4])
    remembered.update(seen, UNKNOWN)
    np.testing.assert_allclose(identity(remembered.shape).mean, seen.mean[:2], atol=1e-12)
    np.testing.assert_allclose(
        identity(remembered.shape).covariance, seen.covariance[:2, :2], rtol=1e-9
    )


def test_the_same_stamp_teaches_nothing_new(rng):
    sensor, remembered = camera(rng), memory()
    remembered.update(fit(sensor, [1, 0, 0]), UNKNOWN)
    before = remembered.shape
    remembered.update(fit(sensor, [3, 2, 1]), UNKNOWN)
    np.testing.assert_allclose(remembered.shape.mean, before.mean, atol=1e-9)
    np.testing.assert_allclose(remembered.shape.covariance, before.covariance, atol=1e-9)


def people_over_time(rng, options, seconds=5.0, fps=5, correlation_time_s=1.0):
    """NEES of the identity of 80 people whose fits have errors that fade slowly."""
    keep = np.exp(-1 / (fps * correlation_time_s))
    nees = []
    for _ in range(80):
        sensor, remembered = camera(rng), memory(options)
        shape = rng.standard_normal(3)
        noise = np.linalg.inv(sensor.shape_information)
        error = sensor.normal(noise)
        for i in range(int(seconds * fps)):
            error = keep * error + np.sqrt(1 - keep**2) * sensor.normal(noise)
            remembered.advance(i / fps)
            prior = remembered.shape
            remembered.update(fit(sensor, shape, prior, error), prior)
        known = identity(remembered.shape)
        nees.append(chi_sq(known.mean - shape[:2], known.covariance))
    return np.mean(nees), known.covariance


def test_errors_that_last_are_not_averaged_as_if_they_did_not(rng):
    nees, covariance = people_over_time(rng, INDEPENDENT)
    assert nees == pytest.approx(2, rel=0.25)
    assert np.sqrt(covariance[1, 1]) < 0.6  # and yet something is learned
    naive, _ = people_over_time(
        rng, ShapeMemoryOptions(correlation_time_s=0.01, shared_variance=0), seconds=3.0
    )
    assert naive > 5


def test_a_large_face_settles_only_where_the_images_show_its_size(rng):
    """8 % larger than the mean: 1.45 prior standard deviations."""
    large = np.array([0.08 / 0.055, 0, 0])
    sizes = {}
    for name, information in {'near': (2.0, 1.0, 30.0), 'far': (0.0, 1.0, 30.0)}.items():
        sensor = camera(rng, information=information)
        if name == 'far':
            sensor.shape_information[0, 1:] = sensor.shape_information[1:, 0] = 0
            sensor.shape_information[0, 0] = 1e-9
        remembered = memory(ShapeMemoryOptions())
        sigma = []
        for i in range(200):
            remembered.advance(i / 7)
            remembered.update(fit(sensor, large, remembered.shape), remembered.shape)
            sigma.append(np.sqrt(remembered.shape.covariance[0, 0]))
        sizes[name] = remembered.shape.mean[0], sigma
    size, sigma = sizes['near']
    # One image says 2 of what the prior says as 1; all of them, together, twice as much.
    assert size == pytest.approx(large[0] * 4 / 5, abs=0.3)
    assert sigma[0] == pytest.approx(np.sqrt(1 / 3), abs=0.02)
    assert sigma[0] > sigma[50] > sigma[199] > np.sqrt(1 / 5)
    assert sigma[199] == pytest.approx(np.sqrt(1 / 5), abs=0.02)
    size, sigma = sizes['far']
    assert abs(size) < 0.01
    assert min(sigma) > 0.99


@pytest.mark.parametrize('share', [0.25, 0.5, 1.0])
def test_what_all_images_have_wrong_is_not_averaged_away(rng, share):
    """NEES of people whose fits share a part of their error, seen now and then for an hour."""
    options = ShapeMemoryOptions(shared_variance=share)
    nees = []
    for _ in range(80):
        sensor, remembered = camera(rng), memory(options)
        shape = rng.standard_normal(3)
        noise = np.linalg.inv(sensor.shape_information)
        bias = sensor.normal(share * noise)
        for i in range(15):
            error = bias + (sensor.normal((1 - share) * noise) if share < 1 else 0)
            remembered.advance(60.0 * i)
            prior = remembered.shape
            remembered.update(fit(sensor, shape, prior, error), prior)
            known = identity(remembered.shape)
            nees.append(chi_sq(known.mean - shape[:2], known.covariance))
    assert np.mean(nees) == pytest.approx(2, rel=0.25)


def test_images_that_say_nothing_take_nothing_away(rng):
    """A minute in profile after one measurement from the front."""
    sensor, blind = camera(rng), camera(rng)
    blind.shape_information = 1e-6 * np.eye(3)
    remembered = memory(ShapeMemoryOptions())
    remembered.update(fit(sensor, [1, 1, 0]), UNKNOWN)
    before = identity(remembered.shape)
    for i in range(1, 600):
        remembered.advance(0.1 * i)
        remembered.update(fit(blind, [1, 1, 0], remembered.shape), remembered.shape)
    after = identity(remembered.shape)
    np.testing.assert_allclose(after.covariance, before.covariance, atol=1e-3)
    np.testing.assert_allclose(after.mean, before.mean, atol=0.05)


def test_a_better_image_counts_though_it_comes_late(rng):
    remembered, sensor = memory(ShapeMemoryOptions()), camera(rng, information=(0.1, 0.1, 1))
    for i in range(100):
        remembered.advance(0.1 * i)
        remembered.update(fit(sensor, [1, 1, 0], remembered.shape), remembered.shape)
    good = camera(rng, information=(50, 50, 50))
    remembered.advance(20.0)
    remembered.update(fit(good, [1, 1, 0], remembered.shape), remembered.shape)
    known = identity(remembered.shape)
    np.testing.assert_allclose(known.mean, [1, 1], atol=0.5)
    assert np.sqrt(np.diag(known.covariance)).max() < 0.17


def test_a_better_image_at_once_counts_no_more_than_its_share(rng):
    remembered, good = memory(ShapeMemoryOptions()), camera(rng, information=(50, 50, 50))
    remembered.update(fit(camera(rng, information=(0.1, 0.1, 1)), [0, 0, 0]), UNKNOWN)
    before = identity(remembered.shape)
    remembered.advance(0.03)
    prior = remembered.shape
    seen = fit(good, [0, 0, 0], prior)
    remembered.update(seen, prior)
    after = identity(remembered.shape)
    said = np.linalg.inv(identity(seen).covariance) - np.linalg.inv(before.covariance)
    at_most = np.linalg.inv(before.covariance) + 0.015 * said
    np.testing.assert_allclose(np.linalg.inv(after.covariance), at_most, rtol=0.01, atol=0.01)


def test_a_measured_size_outlasts_any_number_of_images_that_do_not_show_it(rng):
    sensor = camera(rng)
    sensor.shape_information[0, 1:] = sensor.shape_information[1:, 0] = 0
    sensor.shape_information[0, 0] = 1e-12
    remembered = memory(ShapeMemoryOptions())
    for i in range(200):
        remembered.advance(0.5 * i)
        prior = remembered.shape
        if 4 <= i < 8:
            remembered.measure_size(-3.0, FRONT)
        remembered.update(fit(sensor, [0, 0.5, -0.2], prior, np.zeros(3)), prior)
        if i == 8:
            early = identity(remembered.shape)
    late = identity(remembered.shape)
    assert early.mean[0] == pytest.approx(-3.0, abs=1e-6)
    assert late.mean[0] == pytest.approx(early.mean[0], abs=1e-6)
    assert 0.05 < np.sqrt(early.covariance[0, 0]) < 0.25
    assert late.covariance[0, 0] == pytest.approx(early.covariance[0, 0], abs=1e-6)


def size_expected(remembered, view):
    """Mean and standard deviation, with an image that says nothing."""
    remembered.expect_view(view)
    prior = remembered.shape
    remembered.update(prior, prior)
    return remembered.shape.mean[0], np.sqrt(remembered.shape.covariance[0, 0])


def test_the_last_depth_image_counts_most_for_its_own_side():
    """Keypoints make a face a little too large or too small, in each view otherwise."""
    remembered = memory(ShapeMemoryOptions())
    for i, (size, view) in enumerate([(-3.2, side(-40)), (-2.4, side(10)), (-2.8, side(30))]):
        remembered.advance(0.3 * (i + 1))
        remembered.measure_size(size, view)
    same, sure = size_expected(remembered, side(30))
    other, unsure = size_expected(remembered, side(-70))
    assert same == pytest.approx(-2.75, abs=0.06)
    assert other == pytest.approx(np.mean([-3.2, -2.4, -2.8]), abs=0.1)
    assert sure < 0.12 < unsure < 0.33


def test_many_depth_images_from_one_side_count_as_one():
    remembered = memory(ShapeMemoryOptions())
    for i in range(300):
        remembered.advance(i / 30)
        remembered.measure_size(-1.7, side(0.2 * np.sin(i)))
    assert size_expected(remembered, side(60))[1] > 0.2
    for i in range(300, 900):
        remembered.advance(i / 30)
        remembered.measure_size(-1.7, side(50 * np.sin(i / 30)))
    mean, sigma = size_expected(remembered, side(60))
    assert mean == pytest.approx(-1.7, abs=1e-6)
    assert sigma < 0.2


def test_expressions_fade_and_identity_stays():
    prior = Shape(np.array([0, 0, 0.1]), np.diag([1, 1, 0.81]))
    remembered = memory(ShapeMemoryOptions(expression_time_s=0.5), prior)
    remembered.update(Shape(np.array([1, -1, 2.1]), np.diag([0.5, 0.4, 0.01])), prior)
    before = remembered.shape
    np.testing.assert_allclose(before.mean, [1, -1, 2.1], atol=1e-9)
    remembered.advance(0.5)
    after = remembered.shape
    np.testing.assert_allclose(after.mean[:2], before.mean[:2])
    np.testing.assert_allclose(after.covariance[:2, :2], before.covariance[:2, :2])
    assert after.mean[2] == pytest.approx(0.1 + 2.0 / np.e)
    assert after.covariance[2, 2] == pytest.approx(0.81 + (0.01 - 0.81) / np.e**2)
    remembered.advance(100.0)
    np.testing.assert_allclose(remembered.shape.mean[2], 0.1)


def test_a_fit_less_certain_than_its_prior_teaches_nothing():
    remembered = memory()
    remembered.update(Shape(np.array([2.0, 1, 1]), 1.2 * np.eye(3)), UNKNOWN)
    np.testing.assert_allclose(remembered.shape.mean, 0, atol=1e-12)
    np.testing.assert_allclose(remembered.shape.covariance, np.eye(3), atol=1e-12)


def test_an_absurd_fit_pulls_no_harder_than_three_sigma():
    seen = [Shape(np.array([x, 0, 0]), 0.5 * np.eye(3)) for x in (3 * np.sqrt(0.5), 50)]
    taught = []
    for shape in seen:
        remembered = memory()
        remembered.update(shape, UNKNOWN)
        taught.append(remembered.shape.mean)
    np.testing.assert_allclose(taught[0], taught[1])
    np.testing.assert_allclose(taught[0], [3 * np.sqrt(0.5), 0, 0])


def test_a_rigid_face_has_nothing_to_remember():
    nothing = Shape(np.zeros(0), np.zeros((0, 0)))
    remembered = ShapeMemory(*nothing, [], 0.0, ShapeMemoryOptions())
    remembered.advance(1.0)
    remembered.update(nothing, nothing)
    assert remembered.shape.mean.shape == (0,)
