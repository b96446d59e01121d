# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A calibration, with the field names of sensor_msgs/CameraInfo."""

from __future__ import annotations

import math
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


def guess_calibration(width: int, height: int, horizontal_fov_deg: float) -> Calibration:
    """A pinhole with square pixels and a central principal point, without distortion.

    Args:
        width: Of the image [px].
        height: Of the image [px].
        horizontal_fov_deg: Angle between the image's left and right edge, in (0, 180) deg.
    """
    f = 0.5 * width / math.tan(math.radians(0.5 * horizontal_fov_deg))
    # Pixel (0, 0) is the centre of the first pixel.
    cx, cy = 0.5 * (width - 1), 0.5 * (height - 1)
    return Calibration(
        width=width,
        height=height,
        distortion_model='plumb_bob',
        d=(0.0,) * 5,
        k=(f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0),
        r=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        p=(f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0),
    )
