# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decodes the keypoint network's output: keypoints with covariances, and presence.

The network itself is in `networks.keypoint_network`. Its input is an upright crop (`Crops`) that
is centred on the face and whose side is MARGIN times the longer side of the bounds of the face's
keypoints (`semantic.IS_FACE`). Its output for N crops is (N, 5 K + 7) numbers. Five belong to each
keypoint: u, v, the logarithms of both diagonal elements of the covariance's Cholesky factor, and
the factor's off-diagonal element divided by its second diagonal element. The other seven are the
logit of presence, and two columns of the head's rotation, which are used in training only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops, crop_jacobian
from face_pose_ros.geometry.jit import compiled
from face_pose_ros.geometry.lens import project
from face_pose_ros.keypoints import semantic
from face_pose_ros.results import Keypoints
from face_pose_ros.weights import load_weights

INPUT_PX = 128  # side of the crop
MARGIN = 1.5
KEYPOINTS = len(semantic.NAMES)
NUMBERS = 5  # per keypoint
FURTHER = 7  # numbers that follow those of the keypoints
STEP = 0.1  # offset from the crop's centre per unit of u and v, in sides of the crop
UNIT = 1 / 64  # standard deviation for a logarithm of 0, in sides of the crop
MAX_LOG = 3.0  # the logarithms are clipped to +-MAX_LOG


@dataclass(frozen=True)
class Calibration:
    """Calibration of a trained network, measured on heads that are not in its training data."""

    cov_gain: float = 1.0  # covariance = cov_gain L L^T + cov_floor_px2 identity
    cov_floor_px2: float = 0.0  # of the crop
    presence_slope: float = 1.0  # presence = logistic(slope * (logit - middle))
    presence_middle: float = 0.0
    independent_keypoints: float = 6.0  # the value for `PoseOptions.independent_keypoints`


def packaged_calibration(own: Path | str | None = None) -> Calibration:
    """Calibration in the packaged weights, or in another file; see `load_weights`."""
    return Calibration(*load_weights('keypoint_network', own)['calibration'].tolist())


def read_keypoints(
    numbers: NDArray[np.floating], crops: Crops, camera: Camera, calibration: Calibration
) -> Keypoints:
    """Keypoints in image pixels; presence is 0 for crops that are not valid.

    Args:
        numbers: (N, 5 K + 7), output of the network for N crops.
        crops: These crops.
        camera: The camera of the image.
        calibration: Calibration of the network.
    """
    count = len(crops)
    found = Keypoints(
        np.empty((count, KEYPOINTS, 2)), np.empty((count, KEYPOINTS, 2, 2)), np.empty(count)
    )
    _read(
        np.ascontiguousarray(numbers, np.float32),
        (
            calibration.cov_gain,
            calibration.cov_floor_px2,
            calibration.presence_slope,
            calibration.presence_middle,
        ),
        crops.R_cam_crop,
        crops.focal_px,
        crops.valid,
        camera.numba_lens,
        crops.size_px,
        found.uv,
        found.cov_uv,
        found.presence,
    )
    return found


@compiled
def _read(numbers, calibration, R_cam_crop, focal_px, valid, lens, size_px, uv, cov_uv, presence):
    gain, floor, slope, middle = calibration
    count = uv.shape[1]
    columns, J = np.empty((3, count)), np.empty((2, 2))
    unit_sq = gain * (UNIT * size_px) ** 2
    for i in range(len(numbers)):
        R, of_head = R_cam_crop[i], numbers[i]
        step = STEP * size_px / focal_px[i]
        for k in range(count):
            x, y = step * of_head[NUMBERS * k], step * of_head[NUMBERS * k + 1]
            for j in range(3):
                columns[j, k] = R[j, 0] * x + R[j, 1] * y + R[j, 2]
        project(lens, columns)
        crop_jacobian(lens, R, focal_px[i], J)
        a, b, c, d = J[0, 0], J[0, 1], J[1, 0], J[1, 1]
        for k in range(count):
            uv[i, k, 0], uv[i, k, 1] = columns[0, k], columns[1, k]
            cov = cov_uv[i, k]
            if columns[2, k] > 0 and valid[i]:
                first = math.exp(min(max(of_head[NUMBERS * k + 2], -MAX_LOG), MAX_LOG))
                second = math.exp(min(max(of_head[NUMBERS * k + 3], -MAX_LOG), MAX_LOG))
                third = of_head[NUMBERS * k + 4] * second
                p = unit_sq * first * first + floor
                q = unit_sq * first * third
                r = unit_sq * (third * third + second * second) + floor
                cov[0, 0] = a * a * p + 2 * a * b * q + b * b * r
                cov[1, 1] = c * c * p + 2 * c * d * q + d * d * r
                cov[0, 1] = cov[1, 0] = a * c * p + (a * d + b * c) * q + b * d * r
            else:
                cov[0, 0] = cov[1, 1] = np.inf
                cov[0, 1] = cov[1, 0] = 0.0
        logit = slope * (of_head[NUMBERS * count] - middle)
        presence[i] = 1 / (1 + math.exp(-logit)) if valid[i] else 0.0
