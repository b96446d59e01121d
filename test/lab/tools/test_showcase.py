# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes and drawings of the pictures in README and docs, without OpenGL."""

import numpy as np
import pytest
from helpers.faces import head_pose, make_face

pytest.importorskip('moderngl', reason='needs requirements-training.txt')

import sys
from pathlib import Path
from types import SimpleNamespace

from scipy.spatial.transform import Rotation

from face_pose_ros import Camera
from face_pose_ros.ros.drawing.style import face_colour_rgb

sys.path.append(str(Path(__file__).parents[3] / 'lab' / 'tools'))
import all_sides
import showcase

NECK = np.array([-0.11, 0.0, -0.13])
LOADED = SimpleNamespace(person=SimpleNamespace(neck=NECK))
CAMERA = Camera.from_K([[792.0, 0, 359.5], [0, 792.0, 200.0], [0, 0, 1]], 720, 400)


@pytest.mark.parametrize('actor', showcase.ACTORS)
def test_heads_turn_about_necks_that_stay_and_the_motion_has_no_seam(actor):
    necks = []
    for stamp_s in (0.0, 1.3, 3.9):
        T = actor.pose(LOADED, stamp_s).T_cam_head
        necks.append(T[:3, :3] @ NECK + T[:3, 3])
        again = actor.pose(LOADED, stamp_s + showcase._PERIOD_S).T_cam_head
        np.testing.assert_allclose(T, again, atol=1e-12)
    np.testing.assert_allclose(necks, necks[:1] * 3, atol=1e-12)


def test_somebody_is_seen_in_profile():
    def yaw_deg(actor, stamp_s):
        R = actor.pose(LOADED, stamp_s).T_cam_head[:3, :3]
        return np.degrees(np.arctan2(abs(R[0, 0]), -R[2, 0]))

    stamps = np.arange(0, showcase._PERIOD_S, 0.1)
    assert max(yaw_deg(a, s) for a in showcase.ACTORS for s in stamps) > 80


def test_the_plan_shows_a_head_where_it_is_seen_from_above():
    face = make_face(CAMERA, head_pose((0.3, 0.1, 1.4)), 'f00002', 2, covariance=1e-8 * np.eye(6))
    plan = showcase.Plan(400, CAMERA)
    frame = showcase.Frame(np.zeros((400, 720, 3), np.uint8), [face], np.array([[-0.4, 0.1, 1.0]]))
    drawn = plan.draw(frame)
    dots = np.abs(drawn.astype(int) - face_colour_rgb(2)).max(-1) < 8
    v, u = np.argwhere(dots).mean(0)
    expected = plan._uv(np.array([0.3, 1.4 - 0.1]))  # dot and the ray towards the camera
    np.testing.assert_allclose([u, v], expected, atol=30)
    cross = plan._uv(np.array([-0.4, 1.0])).round().astype(int)
    assert (drawn[cross[1] - 1 : cross[1] + 2, cross[0] - 1 : cross[0] + 2] > 200).all(-1).any()


def test_a_camera_that_rolls_turns_everything_about_the_line_of_sight():
    angles = (30.0, -10.0, 5.0, 15.0)
    upright = all_sides._pose(NECK, (*angles, 0), np.eye(3))
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rolled = all_sides._pose(NECK, (*angles, 90), quarter)
    np.testing.assert_allclose(rolled.T_cam_head[:3], quarter @ upright.T_cam_head[:3], atol=1e-12)
    R_cam_torso = upright.T_cam_head[:3, :3] @ Rotation.from_rotvec(upright.torso).as_matrix()
    neck = upright.T_cam_head[:3, :3] @ NECK + upright.T_cam_head[:3, 3]
    at_rest = R_cam_torso @ NECK + [0, 0, all_sides._DISTANCE_M]
    np.testing.assert_allclose(neck, at_rest, atol=1e-12)


def test_tiles_stand_in_rows_of_five_with_lines_between_them():
    tiles = [np.full((20, 30, 3), 10 * i, np.uint8) for i in range(10)]
    sheet = all_sides._sheet(tiles)
    gap = all_sides._GAP_PX
    assert sheet.shape == (2 * 20 + gap, 5 * 30 + 4 * gap, 3)
    assert (sheet[:20, 30 : 30 + gap] == 255).all()
    assert sheet[-1, -1, 0] == 90
