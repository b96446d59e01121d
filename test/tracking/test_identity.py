# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A fit factored by identity, against conditioning of the joint normal distribution."""

import numpy as np
import pytest
from tracking.people import pose

from face_pose_ros._core import FaceGivenIdentity
from face_pose_ros.geometry import rotations
from face_pose_ros.results import Shape

IS_EXPRESSION = np.array([False, True, False, True, False])
IDENTITY, EXPRESSION = np.flatnonzero(~IS_EXPRESSION), np.flatnonzero(IS_EXPRESSION)


def part(shape, which):
    """Marginal distribution of some of the coefficients."""
    return Shape(shape.mean[which], shape.covariance[np.ix_(which, which)])


def random_covariance(rng, n):
    A = rng.standard_normal((n, n))
    return A @ A.T + 0.1 * np.eye(n)


@pytest.fixture
def fit(rng):
    given_shape, G = random_covariance(rng, 6), rng.standard_normal((6, 5))
    return given_shape, G, Shape(rng.standard_normal(5), random_covariance(rng, 5))


@pytest.fixture
def face(fit):
    given_shape, G, shape = fit
    return FaceGivenIdentity(pose(0.3), given_shape, G, *shape, IS_EXPRESSION)


def test_the_pose_given_the_identity_is_the_conditional_distribution(fit, face):
    given_shape, G, shape = fit
    joint = np.block(
        [
            [given_shape + G @ shape.covariance @ G.T, G @ shape.covariance],
            [shape.covariance @ G.T, shape.covariance],
        ]
    )
    of_pose, who = np.arange(6), 6 + IDENTITY
    regression = joint[np.ix_(of_pose, who)] @ np.linalg.inv(joint[np.ix_(who, who)])
    np.testing.assert_allclose(face.pose_of_identity, regression, atol=1e-9)
    np.testing.assert_allclose(
        face.covariance,
        joint[:6, :6] - regression @ joint[np.ix_(who, of_pose)],
        atol=1e-9,
    )
    other = shape.mean[IDENTITY] + [0.01, -0.02, 0.03]
    moved, *_ = face.for_identity(other, np.eye(3))
    delta = rotations.difference(pose(0.3), moved)
    np.testing.assert_allclose(delta, regression @ [0.01, -0.02, 0.03], atol=1e-9)


def test_the_fitted_identity_gives_the_fit_back(fit, face):
    given_shape, G, shape = fit
    T_cam_head, covariance, *again = face.for_identity(*part(shape, IDENTITY))
    np.testing.assert_allclose(again[0], shape.mean)
    np.testing.assert_allclose(again[1], shape.covariance, atol=1e-9)
    np.testing.assert_allclose(
        face.covariance + covariance,
        given_shape + G @ shape.covariance @ G.T,
        atol=1e-9,
    )
    np.testing.assert_allclose(T_cam_head, pose(0.3), atol=1e-12)


def test_the_expression_follows_a_better_known_identity(fit, face):
    """The same as fitting with more information about the identity from the start."""
    _, _, shape = fit
    more, value = np.diag([2.0, 5, 1]), np.array([0.3, -0.2, 0.5])
    information = np.linalg.inv(shape.covariance)
    vector = information @ shape.mean
    information[np.ix_(IDENTITY, IDENTITY)] += more
    vector[IDENTITY] += more @ value
    joint = Shape(np.linalg.solve(information, vector), np.linalg.inv(information))
    again = Shape(*face.for_identity(*part(joint, IDENTITY))[2:])
    np.testing.assert_allclose(again.mean, joint.mean, atol=1e-9)
    np.testing.assert_allclose(again.covariance, joint.covariance, atol=1e-9)
    np.testing.assert_allclose(part(again, EXPRESSION).mean, joint.mean[EXPRESSION], atol=1e-9)


def test_a_face_without_shape(fit):
    nothing = Shape(np.zeros(0), np.zeros((0, 0)))
    face = FaceGivenIdentity(pose(0.3), fit[0], np.zeros((6, 0)), *nothing, [])
    T_cam_head, covariance, *_ = face.for_identity(*nothing)
    np.testing.assert_array_equal(T_cam_head, pose(0.3))
    np.testing.assert_array_equal(face.covariance, fit[0])
    np.testing.assert_array_equal(covariance, 0)


def test_numbers_of_coefficients_that_differ_are_refused(fit):
    given_shape, G, shape = fit
    with pytest.raises(ValueError, match='numbers of shape coefficients differ'):
        FaceGivenIdentity(pose(0.3), given_shape, G[:, :4], *shape, IS_EXPRESSION)
