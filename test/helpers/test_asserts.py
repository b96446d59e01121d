"""The assertions themselves must be able to fail."""

import pytest
import torch

from face_pose_ros.geometry import se3, so3
from helpers.asserts import assert_poses_close

T = se3.from_rt(torch.eye(3).double(), torch.tensor([0.0, 0, 1]).double())[None]


def test_a_tenth_of_a_degree_is_seen():
    turned = T.clone()
    turned[:, :3, :3] = so3.exp(torch.tensor([0.1, 0, 0]).double().deg2rad())
    assert_poses_close(T, turned, max_deg=0.11, max_mm=0)
    with pytest.raises(AssertionError, match=r'0\.1 deg off'):
        assert_poses_close(T, turned, max_deg=0.09, max_mm=1)


def test_a_millimetre_is_seen():
    moved = T.clone()
    moved[:, 0, 3] += 0.001
    assert_poses_close(T, moved, max_deg=0, max_mm=1.001)
    with pytest.raises(AssertionError, match='1 mm off'):
        assert_poses_close(T, moved, max_deg=1, max_mm=0.9)
