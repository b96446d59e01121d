# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations and poses: group axioms, scipy's answers, finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from face_pose_ros.geometry.rotations import (
    angle_between,
    apply,
    difference,
    exp,
    from_columns,
    from_quat_xyzw,
    from_rt,
    hat,
    inverse,
    left_jacobian,
    log,
    moved,
    nearest,
    to_quat_xyzw,
)

BATCHES = [(), (1,), (3, 1, 2), (0,)]
POSE = from_rt(exp([0.5, -1, 2]), [0.3, -0.2, 1.4])
vectors = arrays(np.float64, 3, elements=st.floats(-1.7, 1.7))
deltas = arrays(np.float64, 6, elements=st.floats(-1.7, 1.7))


def rotation_vectors(batch, rng, largest=3.1):
    """Angles over the whole range, with some elements next to the identity."""
    axis = rng.normal(size=(*batch, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = largest * rng.random((*batch, 1))
    return axis * np.where(rng.random((*batch, 1)) < 0.3, 1e-7 * angle, angle)


@pytest.mark.parametrize('batch', BATCHES)
def test_exp_is_a_rotation_and_log_inverts_it(batch, rng):
    omega = rotation_vectors(batch, rng)
    R = exp(omega)
    assert R.shape == (*batch, 3, 3)
    np.testing.assert_allclose(
        R @ np.swapaxes(R, -1, -2), np.broadcast_to(np.eye(3), R.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(R), 1)
    np.testing.assert_allclose(log(R), omega, rtol=1e-9, atol=1e-12)


@given(vectors, vectors, vectors)
@settings(max_examples=50, deadline=None)
def test_group_axioms(a, b, c):
    A, B, C = (from_rt(exp(v), 3 * v[::-1]) for v in (a, b, c))
    np.testing.assert_allclose((A @ B) @ C, A @ (B @ C), atol=1e-12)
    np.testing.assert_allclose(A @ inverse(A), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(inverse(A @ B), inverse(B) @ inverse(A), atol=1e-12)
    np.testing.assert_allclose(apply(A, apply(B, [a, c])), apply(A @ B, [a, c]), atol=1e-12)


@pytest.mark.parametrize('angle', [1e-9, 1e-5, 0.1, 1.5, 3, np.pi - 1e-6, np.pi])
def test_exponentials_logarithms_and_quaternions_are_scipys(angle, rng):
    axes = rng.normal(size=(200, 3))
    axes[:3] = np.eye(3)
    expected = Rotation.from_rotvec(angle * axes / np.linalg.norm(axes, axis=1, keepdims=True))
    R = expected.as_matrix()
    np.testing.assert_allclose(exp(expected.as_rotvec()), R, atol=1e-12)
    # Half a turn to the left is one to the right: compared as rotations.
    np.testing.assert_allclose(Rotation.from_rotvec(log(R)).as_matrix(), R, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(log(R), axis=1), angle, rtol=1e-6, atol=1e-12)
    quat_xyzw = to_quat_xyzw(R)
    assert (quat_xyzw[:, 3] >= 0).all()
    np.testing.assert_allclose(Rotation.from_quat(quat_xyzw).as_matrix(), R, atol=1e-12)
    np.testing.assert_allclose(from_quat_xyzw(-2.5 * quat_xyzw), R, atol=1e-12)


def test_the_logarithms_series_meets_its_closed_form():
    angle = 1e-4 * np.array([0.999, 1.001])  # SMALL_ANGLE_SQ in rotations.hpp
    found = log(exp(angle[:, None] * [0, 0.6, 0.8]))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), angle, rtol=1e-11)


def test_quaternion_layout_is_xyzw():
    quarter_turn_about_z = [[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(to_quat_xyzw(quarter_turn_about_z), [0, 0, 0.5**0.5, 0.5**0.5])


@given(deltas)
@settings(max_examples=100, deadline=None)
def test_difference_undoes_moved(delta):
    np.testing.assert_allclose(difference(POSE, moved(POSE, delta)), delta, atol=1e-12)


def test_difference_of_stacks_that_are_broadcast():
    T_from = np.array([[from_rt(exp([0.1, 0, i]), [i, j, 1]) for i in range(2)] for j in range(3)])
    delta = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    T_to = np.array([[moved(T, delta) for T in row] for row in T_from])
    np.testing.assert_allclose(difference(T_from, T_to), np.broadcast_to(delta, (3, 2, 6)))
    np.testing.assert_allclose(difference(T_from[0, 0], T_to)[0, 0], delta)


def test_a_perturbation_acts_from_the_left_and_turns_the_head_about_itself():
    T = moved(POSE, [0.1, 0, 0, 0, 0, np.pi / 2])
    np.testing.assert_allclose(T[:3, 3], [0.4, -0.2, 1.4])
    # A quarter turn about the optical axis takes right to down.
    np.testing.assert_allclose(T[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]] @ POSE[:3, :3])


@pytest.mark.parametrize('angle', [0, 1e-9, 1e-5, 0.1, 3])
def test_left_jacobian_is_the_derivative_of_exp(angle):
    omega = angle * np.array([2, -3, 6]) / 7
    step = 1e-6
    for i, d in enumerate(step * np.eye(3)):
        change = log(exp(omega + d) @ exp(omega - d).T) / (2 * step)
        np.testing.assert_allclose(left_jacobian(omega)[:, i], change, atol=1e-8)


def test_hat_is_the_cross_product(rng):
    a, b = rng.normal(size=(2, 4, 3))
    np.testing.assert_allclose((hat(a) @ b[..., None])[..., 0], np.cross(a, b))


def test_nearest_is_a_rotation_and_leaves_rotations_alone(rng):
    R = exp(rotation_vectors((9,), rng))
    np.testing.assert_allclose(nearest(R), R, atol=1e-12)
    noisy = R + 0.4 * rng.normal(size=(9, 3, 3))
    np.testing.assert_allclose(np.linalg.det(nearest(noisy)), 1)
    # No rotation is nearer.
    for other in exp(rotation_vectors((50,), rng)):
        assert np.linalg.norm(nearest(noisy[0]) - noisy[0]) <= np.linalg.norm(other - noisy[0])
    # A reflection has no rotation nearby; the answer must be one all the same.
    assert np.linalg.det(nearest(-R)).min() > 0.999


def test_angle_between(rng):
    R = exp(rotation_vectors((5,), rng))
    omega = np.array([0.2, -0.1, 0.4])
    expected = np.full(5, np.linalg.norm(omega))
    np.testing.assert_allclose(angle_between(R, R @ exp(omega)), expected, rtol=1e-9)


def test_columns_of_any_length_give_rotations(rng):
    R = from_columns(3 * rng.normal(size=(100, 6)))
    np.testing.assert_allclose(
        np.swapaxes(R, -1, -2) @ R, np.broadcast_to(np.eye(3), R.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(R), 1)
    columns = np.swapaxes(R[..., :2], -1, -2).reshape(100, 6)
    np.testing.assert_allclose(from_columns(columns), R, atol=1e-12)


def test_read_only_arrays_and_views_are_taken():
    R = exp([0.1, 0.2, 0.3])
    R.flags.writeable = False
    np.testing.assert_allclose(log(R.T[::-1][::-1]), [-0.1, -0.2, -0.3])
    T = from_rt(R, [1, 2, 3])
    T.flags.writeable = False
    np.testing.assert_allclose(moved(T, np.zeros(6)), T)
