# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The closed-form start."""

import numpy as np
import pytest
from helpers.asserts import position_error_mm, rotation_error_deg
from helpers.cameras import DISTORTIONS, make_camera
from helpers.heads import observe, random_poses
from pose.solver import closed_form


@pytest.mark.parametrize('name', DISTORTIONS)
def test_closed_form_start_is_exact_without_noise(name, rigid, rng):
    camera = make_camera(name)
    T = random_poses(100, camera, rng)
    keypoints = observe(rigid.xyz_head, T, camera)
    index = np.arange(100)[:, None]
    start = np.array([closed_form(rigid, camera, keypoints[i])[0] for i in index])
    good = (rotation_error_deg(start, T) < 0.01) & (position_error_mm(start, T) < 0.1)
    assert good.mean() >= 0.99


def test_samples_escape_a_hand_over_a_third_of_the_face(rigid, rng):
    """Outliers that agree with each other."""
    camera = make_camera()
    T = random_poses(30, camera, rng, distance_m=(0.5, 1), yaw_deg=30)
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=1, rng=rng)
    covered = rigid.xyz_head[:, 2] < np.quantile(rigid.xyz_head[:, 2], 0.33)
    keypoints.uv[:, covered] += 150, 60
    index = np.arange(30)[:, None]
    start = np.array([closed_form(rigid, camera, keypoints[i])[0] for i in index])
    assert (rotation_error_deg(start, T) < 8).mean() > 0.9
