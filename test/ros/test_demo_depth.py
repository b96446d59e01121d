# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's depth camera shows the head at its true pose."""

import numpy as np
import pytest
from helpers.cameras import make_camera

from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.ros.demo.depth_camera import depth_image, head_of
from face_pose_ros.ros.demo.scenes import Shot


@pytest.mark.parametrize('portrait', ['grace_hopper', 'astronaut'])
def test_depth_is_that_of_the_face_with_a_wall_behind(portrait):
    camera, T = make_camera('plumb_bob_5'), head_of(portrait)
    R_world_cam = rotations.exp([0.02, -0.05, 0.3])
    rgb = np.zeros((camera.height, camera.width, 3), np.uint8)
    z_mm = depth_image(portrait, Shot(rgb, camera, R_world_cam), seed=1)
    tip = rotations.apply(T, deformable_face().xyz_head[[4, 6, 9, 50, 197, 280]]) @ R_world_cam
    uv = np.round(camera.project(tip).uv).astype(int)
    windows = [z_mm[v - 3 : v + 4, u - 3 : u + 4] for u, v in uv]
    measured = [window.any() for window in windows]
    assert sum(measured) >= 4
    read = [np.median(w[w > 0]) for w, known in zip(windows, measured, strict=True) if known]
    np.testing.assert_allclose(read, 1000 * tip[measured, 2], rtol=0.03)
    assert 0.03 < (z_mm == 0).mean() < 0.07
    assert z_mm.max() > 1000 * (T[2, 3] + 0.6)
