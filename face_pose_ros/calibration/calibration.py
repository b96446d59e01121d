# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A calibration, with the field names of sensor_msgs/CameraInfo."""

from __future__ import annotations

from dataclasses import dataclass


class CalibrationError(ValueError):
    """An unusable calibration file; the text names file and field."""


@dataclass(frozen=True)
class Calibration:
    """The fields of sensor_msgs/CameraInfo that a calibration fills."""

    width: int  # px
    height: int  # px
    distortion_model: str
    d: tuple[float, ...]  # coefficients in OpenCV's order
    k: tuple[float, ...]  # 3x3 row-major [px]
    r: tuple[float, ...]  # 3x3 row-major
    p: tuple[float, ...]  # 3x4 row-major [px]
