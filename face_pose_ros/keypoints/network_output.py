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

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops
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

    @cached_property
    def decoding(self) -> _core.Decoding:
        """The calibration and the output's format as compiled code takes them."""
        return _core.Decoding(
            NUMBERS,
            STEP,
            UNIT,
            MAX_LOG,
            self.cov_gain,
            self.cov_floor_px2,
            self.presence_slope,
            self.presence_middle,
        )


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
    uv, cov_uv, presence = _core.read_keypoints(
        numbers,
        KEYPOINTS,
        calibration.decoding,
        crops.R_cam_crop,
        crops.focal_px,
        crops.valid,
        crops.size_px,
        camera.lens,
    )
    return Keypoints(uv, cov_uv, presence)
