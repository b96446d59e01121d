# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Valid and refused depth images."""

import numpy as np
import pytest
from helpers.cameras import make_camera

from face_pose_ros import DepthImage

CAMERA = make_camera()
SHAPE = CAMERA.height, CAMERA.width


@pytest.mark.parametrize('kind', [np.uint16, np.float32, np.float64])
def test_pixels_are_kept_contiguous_and_writable(kind):
    z = np.zeros((SHAPE[0], 2 * SHAPE[1]), kind)[:, ::2]
    z.flags.writeable = False
    kept = DepthImage(z, CAMERA).z
    assert kept.dtype == (np.uint16 if kind == np.uint16 else np.float32)
    assert kept.flags.c_contiguous
    assert kept.flags.writeable


@pytest.mark.parametrize(
    ('z', 'T', 'text'),
    [
        (np.zeros(SHAPE, np.int32), None, 'uint16 in mm or float in m'),
        (np.zeros((*SHAPE, 1), np.uint16), None, 'expected an .H, W. depth image'),
        (np.zeros(SHAPE[::-1], np.uint16), None, 'but its camera is calibrated for'),
        (np.zeros(SHAPE, np.uint16), 2 * np.eye(4), 'must be a rigid transform'),
        (np.zeros(SHAPE, np.uint16), np.diag([1, 1, -1, 1]), 'must be a rigid transform'),
        (np.zeros(SHAPE, np.uint16), np.full((4, 4), np.nan), 'must be a rigid transform'),
    ],
)
def test_what_is_no_depth_image_is_refused(z, T, text):
    with pytest.raises(ValueError, match=text):
        DepthImage(z, CAMERA, T)


def test_the_share_of_measured_pixels_counts_no_nan_zero_or_infinity():
    z = np.ones(SHAPE, np.float32)
    z[:, : SHAPE[1] // 4], z[: SHAPE[0] // 2] = np.nan, 0
    z[SHAPE[0] // 2 :, SHAPE[1] // 2 :] = np.inf
    assert DepthImage(z, CAMERA).share_measured == pytest.approx(0.125, abs=0.02)
