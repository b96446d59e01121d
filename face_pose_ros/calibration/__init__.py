# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads calibration files of many tools, or guesses a calibration. No ROS import, no torch."""

from face_pose_ros.calibration.calibration import (
    Calibration,
    CalibrationError,
    guess_calibration,
)
from face_pose_ros.calibration.load import load_calibration

__all__ = ['Calibration', 'CalibrationError', 'guess_calibration', 'load_calibration']
