# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dressed heads with a depth image: truth, picture and depth belong together."""

import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.evaluation.depth_dressed import render_dressed
from face_pose_lab.evaluation.depth_scenes import SEQUENCE, read_scenes
from face_pose_lab.synthetic.sampling import HeadRange

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import deformable_face

LIMITS = HeadRange(distance_m=(0.6, 1.2), width=320, height=240)


@pytest.fixture(scope='module')
def rendered(studio, tmp_path_factory):
    folder = tmp_path_factory.mktemp('dressed')
    render_dressed(studio, folder, LIMITS, heads=6, people=1)
    return folder, read_scenes(folder)


def test_depth_is_that_of_the_head_at_its_pose(rendered):
    folder, scenes = rendered
    cheeks = deformable_face().xyz_head[[50, 280, 205, 425, 4]]
    gaps = []
    for scene in scenes:
        rgb, z = scene.read(folder)
        assert rgb.shape == (240, 320, 3)
        assert 40 < scene.pupils_mm < 80
        xyz = rotations.apply(np.array(scene.T_cam_head), cheeks)
        uv = np.rint(Camera.from_K(**scene.camera).project(xyz).uv).astype(int)
        box = np.array(scene.box_xyxy)
        assert (uv > box[:2] - 9).all()
        assert (uv < box[2:] + 9).all()
        read = z[uv[:, 1], uv[:, 0]]
        gaps.append(np.median((read - xyz[:, 2])[read > 0]))
    assert abs(np.median(gaps)) < 0.015  # of another size than the mean, and hair may be in front


def test_who_moves_does_so_in_even_steps_before_one_camera(rendered):
    moving = [scene for scene in rendered[1] if scene.person == 0]
    assert len(moving) == SEQUENCE
    assert all(scene.camera == moving[0].camera for scene in moving)
    steps = np.diff([np.array(scene.T_cam_head)[:3, 3] for scene in moving], axis=0)
    np.testing.assert_allclose(steps, np.tile(steps[0], (SEQUENCE - 1, 1)), atol=1e-12)
