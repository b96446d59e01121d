# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of the hourglass: keypoints with covariances, and the presence of a head.

The network itself is in `hourglass.network`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.weights import load_weights

Array = NDArray[np.float64]

INPUT_PX = 128  # side of the crop
_NUMBERS = 5  # per keypoint: u, v, and three of the covariance
_UNIT = 1 / 32  # of the crop's side: standard deviation of a keypoint where the network says 0
_BLUR = 1 / 16  # of the crop's side: width of the targets in heatmaps of 16 cells
_MAX_LOG = 3.0  # of a standard deviation over the unit, up or down
_SUREST = 0.999  # about one in a thousand crops of anything looks like a head


class CropKeypoints(NamedTuple):
    """Keypoints in N crops."""

    uv: Array  # (N, K, 2) px of the crop; pixel (0, 0) is the centre of its top-left pixel
    cov_uv: Array  # (N, K, 2, 2) px^2
    confidence: Array  # (N, K) peak of the heatmap that such a covariance means, in [0, 1]


@dataclass(frozen=True)
class KeypointCalibration:
    """Calibration of a trained network, measured on a validation set."""

    cov_gain: float  # covariance = cov_gain * the network's + cov_floor_px2 * identity
    cov_floor_px2: float  # of the crop
    presence_slope: float  # presence = logistic(slope * (mean confidence - middle))
    presence_middle: float
    independent_keypoints: float  # see `PoseOptions`

    def covariance(self, cov_uv: Array) -> Array:
        """Calibrated covariances (..., 2, 2) px^2 for the predicted ones."""
        return self.cov_gain * cov_uv + self.cov_floor_px2 * np.eye(2)

    def presence(self, confidence: Array) -> Array:
        """(N,) in [0, 1], from the confidences (N, K) of the keypoints."""
        logit = self.presence_slope * (confidence.mean(-1) - self.presence_middle)
        return (1 / (1 + np.exp(-logit))).clip(max=_SUREST)


def packaged_calibration() -> KeypointCalibration:
    """Calibration of the packaged weights."""
    return KeypointCalibration(*load_weights('hourglass')['calibration'].tolist())


def read_keypoints(numbers: NDArray[np.floating], size_px: int = INPUT_PX) -> CropKeypoints:
    """Keypoints in crops of size_px, from the output (N, 5 K + 6) of the network."""
    points = numbers[:, :-6].reshape(len(numbers), -1, _NUMBERS).astype(np.float64)
    uv = 0.5 * (size_px - 1) + 0.5 * size_px * points[..., :2]
    a, d = np.moveaxis(np.exp(points[..., 2:4].clip(-_MAX_LOG, _MAX_LOG)), -1, 0)
    # The covariance's Cholesky factor: any covariance, and no other matrix.
    c = points[..., 4] * d
    unit = (_UNIT * size_px) ** 2
    cov_uv = unit * np.stack([a * a, a * c, a * c, c * c + d * d], -1)
    cov_uv = cov_uv.reshape(*uv.shape, 2)
    blur = (_BLUR * size_px) ** 2
    determinant = (cov_uv[..., 0, 0] + blur) * (cov_uv[..., 1, 1] + blur) - cov_uv[..., 0, 1] ** 2
    return CropKeypoints(uv, cov_uv, blur / np.sqrt(determinant))
