# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A guessed field of view scales distances and shifts directions as geometry says."""

from itertools import islice

import numpy as np
import pytest
from face_pose_lab.evaluation.guessed_fov import cost, pictures, pinhole

from face_pose_ros.estimator import FacePoseEstimator


def tan_deg(angle_deg: float) -> float:
    return float(np.tan(np.deg2rad(angle_deg)))


def test_cost_of_a_guess():
    estimator = FacePoseEstimator('cpu')
    camera, guess = pinhole(60.0), pinhole(70.0)
    f_ratio = tan_deg(30) / tan_deg(35)

    middle = list(islice(pictures(estimator, camera, 0.0), 1))
    change, sight_deg, turned_deg = cost(estimator, middle, camera, guess)
    assert change == pytest.approx(100 * (f_ratio - 1), abs=1.5)
    assert sight_deg < 0.1
    assert turned_deg < 2.0

    aside = list(islice(pictures(estimator, camera, 11.0), 1))
    change, sight_deg, turned_deg = cost(estimator, aside, camera, guess)
    expected_deg = np.rad2deg(np.arctan(tan_deg(11) / f_ratio)) - 11
    assert sight_deg == pytest.approx(expected_deg, abs=0.15)
    assert turned_deg == pytest.approx(expected_deg, abs=1.5)
    assert 100 * (f_ratio - 1) - 0.5 < change < 0
