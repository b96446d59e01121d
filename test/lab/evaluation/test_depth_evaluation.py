# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images like an active stereo camera's, and what is said of the estimates."""

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs torch (make cuda)')

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.depth import Estimates, figures, read_scenes
from face_pose_lab.synthetic.depth_camera import ActiveStereo, cover_face


def ball(distance_m):
    """(120, 160) m: a disc in front of nothing."""
    v, u = np.mgrid[:120, :160]
    inside = (u - 83) ** 2 + (v - 57) ** 2 < 45**2
    return np.where(inside, np.float32(distance_m), np.float32(0))


def test_noise_grows_with_the_square_of_the_distance(rng):
    spread = []
    for distance_m in (0.8, 2.4):
        z = ball(distance_m)
        camera = ActiveStereo(bias_px=0, holes=0, flying=0)
        read = camera.measure(z, rng)[30:90, 60:110]
        spread.append(0.001 * read[read > 0].std())
    assert spread[1] / spread[0] == pytest.approx(9, rel=0.35)
    assert spread[0] == pytest.approx(0.08 / 21.2 * 0.8**2, rel=0.35)


def test_holes_flying_pixels_and_a_shadow_are_there(rng):
    z = ball(1.0)
    read = ActiveStereo().measure(z, rng)
    assert 0.03 < (read[z > 0] == 0).mean() < 0.15
    beside = read[57, 15:38]  # left of the disc
    assert (beside == 0).mean() > 0.2
    edge = (np.abs(np.hypot(*(np.mgrid[:120, :160] - np.array([57, 83])[:, None, None])) - 45)) < 2
    between = (read > 1150) & (read < 1350)
    assert between[edge].any()


def test_a_share_of_the_face_is_covered(rng):
    z = np.round(1000 * ball(1.0)).astype(np.uint16)
    covered = cover_face(z, np.array([38.0, 12, 128, 102]), z > 0, 0.3, rng)
    assert (covered != z)[z > 0].mean() == pytest.approx(0.3, abs=0.02)
    assert not (covered != z)[z == 0].any()


def test_errors_are_those_of_the_heads_that_were_found():
    T = np.tile(np.eye(4), (3, 1, 1))
    T[:, :3, 3] = [[0, 0, 1], [0, 0, 2], [0.3, 0, 1]]
    found = T.copy()
    found[1, 2, 3] = 2.1  # 5 % too far
    found[2] = np.nan
    covariance = np.tile(1e-4 * np.eye(6), (3, 1, 1))
    row = figures(Estimates(T, found, covariance))
    assert (row['heads'], row['found']) == (3, 2)
    assert row['distance_bias_percent'] == pytest.approx(2.5)
    assert row['distance_median_percent'] == pytest.approx(2.5)
    assert row['distance_rms_percent'] == pytest.approx(5 / np.sqrt(2))


def test_a_folder_without_scenes_is_named(tmp_path):
    with pytest.raises(DataError, match='not a folder of `render`'):
        read_scenes(tmp_path)
