# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Jittered crops: bounds, no preferred side, the same each time."""

import numpy as np
import pytest
from face_pose_lab.jittered import jittered
from helpers.cameras import make_camera

from face_pose_ros.geometry.crops import crops_around_boxes
from face_pose_ros.geometry.rotations import nearest

SIZE = 256
MIRROR = np.array([-1.0, 1.0, 1.0])
BOX = np.array([[430.0, 250.0, 570.0, 400.0]])


def test_jitters_stay_within_their_bounds_and_prefer_no_side():
    plain = crops_around_boxes(BOX, make_camera('plumb_bob_5'), SIZE, 1.5)
    crops, mirrored = jittered(plain, 64)
    assert len(crops) == 64
    assert mirrored.tolist() == 32 * [False, True]
    R = np.where(mirrored[:, None, None], crops.R_cam_crop * MIRROR, crops.R_cam_crop)
    np.testing.assert_allclose(nearest(R), R, atol=1e-12)
    scale = np.log(crops.focal_px / plain.focal_px)
    turn = plain.R_cam_crop.swapaxes(-1, -2) @ R
    shift = plain.focal_px * (turn[:, :2, 2] / turn[:, 2:, 2]).T / SIZE
    roll = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
    assert 0.9 * np.log(1.08) < np.abs(scale).max() <= np.log(1.08)
    # The shift is of the jittered crop's side, which differs by up to 8 %.
    assert 0.035 < np.abs(shift).max() <= 0.04 * 1.081
    assert np.deg2rad(9) < np.abs(roll).max() < np.deg2rad(10.1)
    np.testing.assert_allclose(scale[::2], -scale[1::2])
    np.testing.assert_allclose(roll[::2], -roll[1::2], atol=2e-3)


@pytest.mark.parametrize('jitters', [0, 1, 5])
def test_every_crop_is_jittered_alike_and_each_time_the_same(jitters):
    camera = make_camera()
    boxes = np.repeat(BOX, 2, 0)
    crops, mirrored = jittered(crops_around_boxes(boxes, camera, SIZE, 1.5), jitters)
    assert (len(crops), len(mirrored)) == (2 * jitters, jitters)
    np.testing.assert_allclose(crops.R_cam_crop[:jitters], crops.R_cam_crop[jitters:])
    again, _ = jittered(crops_around_boxes(BOX, camera, SIZE, 1.5), jitters)
    np.testing.assert_array_equal(again.focal_px, crops.focal_px[:jitters])


def test_no_crops_no_jitters():
    crops = crops_around_boxes(np.zeros((0, 4)), make_camera(), SIZE, 1.5)
    assert len(jittered(crops, 3)[0]) == 0
