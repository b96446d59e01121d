# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The assertions themselves must be able to fail."""

import numpy as np
import pytest

from face_pose_ros.geometry import rotations
from helpers.asserts import assert_poses_close

T = rotations.from_rt(np.eye(3), np.array([0.0, 0, 1]))[None]


def test_a_tenth_of_a_degree_is_seen():
    turned = T.copy()
    turned[:, :3, :3] = rotations.exp(np.deg2rad([0.1, 0, 0]))
    assert_poses_close(T, turned, max_deg=0.11, max_mm=0)
    with pytest.raises(AssertionError, match=r'0\.1 deg off'):
        assert_poses_close(T, turned, max_deg=0.09, max_mm=1)


def test_a_millimetre_is_seen():
    moved = T.copy()
    moved[:, 0, 3] += 0.001
    assert_poses_close(T, moved, max_deg=0, max_mm=1.001)
    with pytest.raises(AssertionError, match='1 mm off'):
        assert_poses_close(T, moved, max_deg=1, max_mm=0.9)
