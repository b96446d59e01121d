# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads calibration files of many tools. No ROS import."""

from face_pose_ros.calibration.calibration import Calibration, CalibrationError
from face_pose_ros.calibration.load import load_calibration

__all__ = ['Calibration', 'CalibrationError', 'load_calibration']
