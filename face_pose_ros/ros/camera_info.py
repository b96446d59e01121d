# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Converts CameraInfo messages to cameras: pure functions, no node, no context."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
from sensor_msgs.msg import CameraInfo

from face_pose_ros.geometry.camera import Camera

_FIELDS = attrgetter('width', 'height', 'distortion_model', 'd', 'binning_x', 'binning_y', 'roi')
_MATRICES = attrgetter('k', 'r', 'p')


class CameraInfoError(ValueError):
    """An unusable CameraInfo message; the text says what was expected."""


def camera_from_info(msg: CameraInfo, rectified: bool = False) -> Camera:
    """Camera of the image, with the region of interest and binning of its CameraInfo.

    Args:
        msg: The calibration; width, height and K of the full sensor, as sensor_msgs defines.
        rectified: The image is rectified: use P without distortion instead of K and D.

    Raises:
        CameraInfoError: K (or P) is zero (not calibrated) or invalid, the model is unknown, or
            the region of interest is not inside the image.
    """
    if rectified:
        name, K, dist, model = 'P', np.reshape(msg.p, (3, 4))[:, :3], (), 'plumb_bob'
    else:
        name, K = 'K', np.reshape(msg.k, (3, 3))
        dist = tuple(msg.d)
        model = msg.distortion_model
    if rectified and K[0, 0] == 0 != msg.k[0]:
        raise CameraInfoError(
            f'P[0] is 0, but K[0] is {msg.k[0]:g}: without P, set image_is_rectified to false'
        )
    if K[0, 0] == 0:  # as sensor_msgs defines it; drivers also send diag(0, 0, 1)
        raise CameraInfoError(
            f'{name}[0] is 0: the camera is not calibrated; see docs/calibration.md'
        )
    try:
        camera = Camera.from_K(K, msg.width, msg.height, dist, model)
    except ValueError as error:
        raise CameraInfoError(str(error)) from error
    return _of_image(camera, msg)


def _of_image(camera: Camera, msg: CameraInfo) -> Camera:
    """The camera of the region of interest, binned."""
    roi = msg.roi
    if roi.width or roi.height:
        right, bottom = roi.x_offset + roi.width, roi.y_offset + roi.height
        if not (roi.width and roi.height and right <= msg.width and bottom <= msg.height):
            raise CameraInfoError(
                f'the region of interest, {roi.width} x {roi.height} px from ({roi.x_offset}, '
                f'{roi.y_offset}), is no part of the {msg.width} x {msg.height} px of the full '
                'sensor, to which width, height and K belong'
            )
        camera = camera.crop(roi.x_offset, roi.y_offset, roi.width, roi.height)
    bin_x, bin_y = binning(msg)
    if bin_x > 1 or bin_y > 1:
        # Rows and columns that do not fill a bin are not read out.
        width, height = camera.width // bin_x, camera.height // bin_y
        if not (width and height):
            raise CameraInfoError(
                f'binning {bin_x} x {bin_y} leaves nothing of {camera.width} x {camera.height} px'
            )
        camera = camera.crop(0, 0, width * bin_x, height * bin_y).resize(width, height)
    return camera


def binning(msg: CameraInfo) -> tuple[int, int]:
    """Sensor pixels per image pixel, horizontally and vertically; 0 means 1."""
    return max(msg.binning_x, 1), max(msg.binning_y, 1)


def same_calibration(a: CameraInfo, b: CameraInfo) -> bool:
    """Whether all fields except the header are equal."""
    return _FIELDS(a) == _FIELDS(b) and all(map(np.array_equal, _MATRICES(a), _MATRICES(b)))


def size_text(msg: CameraInfo, camera: Camera) -> str:
    """Size of the image with region of interest and binning, as text."""
    text = f'{camera.width} x {camera.height} px'
    bin_x, bin_y = binning(msg)
    if bin_x > 1 or bin_y > 1:
        text += f' (width and height after a binning of {bin_x} x {bin_y})'
    elif msg.roi.width:
        text += ' (its region of interest)'
    return text
