# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of poses that are wrong by a known amount."""

import numpy as np
import pytest
from face_pose_lab.evaluation.pose_errors import HEADING, pose_errors, table_row, turn_deg
from helpers.heads import frontal

from face_pose_ros.geometry import rotations

RAY = np.array([0.36, -0.48, 0.8])
ACROSS = np.array([0.8, 0.6, 0])  # at right angles to it


def truth(distance=2.0):
    return rotations.from_rt(rotations.exp([0.3, -1.2, 0.7]), distance * RAY)[None]


def test_errors_along_and_across_the_ray():
    true = truth()
    estimate = true.copy()
    estimate[:, :3, 3] += 0.004 * ACROSS - 0.05 * RAY
    errors = pose_errors(estimate, np.eye(6)[None], true)
    assert errors.lateral_mm_per_m[0] == pytest.approx(2.0)
    assert errors.depth_percent[0] == pytest.approx(2.5)  # seen 5 cm too near at 2 m
    assert errors.rotation_deg[0] == pytest.approx(0, abs=1e-6)


def test_stated_sigmas_are_split_like_the_errors():
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = 0.06**2 * np.outer(RAY, RAY) + 0.006**2 * np.outer(ACROSS, ACROSS)
    covariance[3:, 3:] = np.diag(np.deg2rad([1.0, 2.0, 2.0]) ** 2)
    covariance += 1e-14 * np.eye(6)
    errors = pose_errors(truth(), covariance[None], truth())
    assert errors.depth_sigma_percent[0] == pytest.approx(3)
    assert errors.lateral_sigma_mm_per_m[0] == pytest.approx(3, rel=1e-4)
    assert errors.rotation_sigma_deg[0] == pytest.approx(3)


def test_consistent_poses_have_the_nees_of_their_freedom(rng):
    A = rng.standard_normal((6, 6))
    scale = np.array([0.01, 0.01, 0.05, 0.04, 0.03, 0.02])
    covariance = scale[:, None] * (A @ A.T + np.eye(6)) * scale
    draws = rng.standard_normal((4000, 6))
    draws = 0.3 * draws @ np.linalg.cholesky(covariance).T
    estimate = truth()
    R = rotations.exp(draws[:, 3:]) @ estimate[:, :3, :3]
    true = rotations.from_rt(R, estimate[:, :3, 3] + draws[:, :3])
    errors = pose_errors(
        np.repeat(estimate, 4000, 0), np.repeat(0.09 * covariance[None], 4000, 0), true
    )
    assert errors.nees.mean() == pytest.approx(6, rel=0.05)


def test_a_row_counts_what_was_not_found():
    errors = pose_errors(truth(), 1e-4 * np.eye(6)[None], truth())
    row = table_row('0-60', 4, errors[np.array([True])])
    assert row.split()[:3] == ['0-60', '4', '25.0']
    assert len(row.split()) == 14
    assert len(row) == len(HEADING.splitlines()[1])
    assert table_row('75-90', 3, errors[np.array([False])]).split() == ['75-90', '3', '0.0']


def test_a_head_beside_the_axis_that_looks_at_the_camera_is_not_turned():
    about_z = np.deg2rad([[0, 0, yaw] for yaw in (0.0, 40.0, -70.0)])
    R = frontal((0, 0, 0.8))[:3, :3] @ rotations.exp(about_z)
    T = rotations.from_rt(R, np.tile([0, 0, 0.8], (3, 1)))
    assert turn_deg(T).tolist() == pytest.approx([0, 40, 70])
    beside = rotations.from_rt(rotations.exp([0, 0.6, 0]), [0, 0, 0])  # the whole scene about y
    assert turn_deg(beside @ T).tolist() == pytest.approx([0, 40, 70])
