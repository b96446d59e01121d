"""Pose perturbations in numpy, against the definitions and finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation
from tracking.people import pose

from face_pose_ros.geometry import rotations

vectors = arrays(np.float64, 6, elements=st.floats(-1.7, 1.7))


@given(vectors)
@settings(max_examples=100, deadline=None)
def test_difference_undoes_moved(delta):
    T = pose(0.3, -0.2, 1.4, (0.5, -1, 2))
    np.testing.assert_allclose(rotations.difference(T, rotations.moved(T, delta)), delta, atol=1e-12)


def test_a_perturbation_acts_from_the_left_and_turns_the_head_about_itself():
    T = pose(0.3, -0.2, 1.4, (0.5, -1, 2))
    moved = rotations.moved(T, np.array([0.1, 0, 0, 0, 0, np.pi / 2]))
    np.testing.assert_allclose(moved[:3, 3], [0.4, -0.2, 1.4])
    # A quarter turn about the optical axis takes right to down.
    np.testing.assert_allclose(
        moved[:3, :3], np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ T[:3, :3]
    )


@pytest.mark.parametrize('angle', [0, 1e-9, 1e-5, 0.1, 3])
def test_left_jacobian_is_the_derivative_of_exp(angle):
    omega = angle * np.array([2, -3, 6]) / 7
    step = 1e-6
    for i, d in enumerate(step * np.eye(3)):
        change = rotations.log(rotations.exp(omega + d) @ rotations.exp(omega - d).T) / (2 * step)
        np.testing.assert_allclose(rotations.left_jacobian(omega)[:, i], change, atol=1e-8)


def test_difference_of_stacks():
    T_from = np.array([[pose(0.1), pose(0.2)], [pose(0.3), pose(0.4)], [pose(0), pose(1)]])
    delta = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    T_to = np.array([[rotations.moved(T, delta) for T in row] for row in T_from])
    np.testing.assert_allclose(rotations.difference(T_from, T_to), np.broadcast_to(delta, (3, 2, 6)))


@pytest.mark.parametrize('angle', [1e-9, 1e-5, 0.1, 1.5, 3, np.pi - 1e-6, np.pi])
def test_logarithms_are_scipys(angle):
    random = np.random.default_rng(0)
    axes = random.normal(size=(200, 3))
    axes[:3] = np.eye(3)
    rotations = Rotation.from_rotvec(angle * axes / np.linalg.norm(axes, axis=1, keepdims=True))
    R = rotations.as_matrix()
    np.testing.assert_allclose(rotations.exp(rotations[3].as_rotvec()), R[3], atol=1e-12)
    # Half a turn to the left is one to the right: compared as rotations.
    again = Rotation.from_rotvec(rotations.log(R)).as_matrix()
    np.testing.assert_allclose(again, R, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(rotations.log(R), axis=1), angle, rtol=1e-6, atol=1e-12)
