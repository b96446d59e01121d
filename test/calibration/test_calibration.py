# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrations that are guessed."""

import math

import numpy as np
import pytest

from face_pose_ros.calibration import guess_calibration
from face_pose_ros.geometry.camera import Camera


def test_a_guess_spans_the_field_of_view_from_edge_to_edge():
    guess = guess_calibration(1281, 719, 63.0)
    camera = Camera.from_K(guess.k, guess.width, guess.height, guess.d, guess.distortion_model)
    edges = [[-0.5, 359.0], [1280.5, 359.0]]
    left, right = camera.unproject(edges).rays
    angle_deg = math.degrees(math.acos(float(left @ right)))
    assert angle_deg == pytest.approx(63.0, abs=1e-9)
    np.testing.assert_allclose(left[0], -right[0], rtol=1e-12)
    assert camera.fx == camera.fy
    assert guess.p[:3] == guess.k[:3]
    assert guess.p[4:7] == guess.k[3:6]
