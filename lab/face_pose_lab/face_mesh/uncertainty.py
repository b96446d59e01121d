# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Covariances of Face Mesh's keypoints, which the network does not predict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.weights import load_weights

Array = NDArray[np.float64]

# Tip of the nose, where the cheeks end at the right and the left ear, hairline, chin.
_NOSE_TIP, _EAR_RIGHT, _EAR_LEFT, _HAIRLINE, _CHIN = 4, 234, 454, 10, 152
_MIN_SPREAD = 0.04  # px^2: crops that agree better than this do so by chance
_NOSE_LENGTH = 0.6  # from between the ears to the tip of the nose, of the height of the face


@dataclass(frozen=True)
class KeypointUncertainty:
    """Covariances fitted to heads whose keypoints are known; see weights/keypoint_uncertainty.md.

    The errors of one face's keypoints go together, which a covariance of each alone can't say:
    `PoseOptions.independent_keypoints` stands for that.
    """

    cov_crop: Array  # (478, 2, 2) px^2 of the crop, of a face seen from the front
    turn_gain: float  # in one crop it grows by exp(turn_gain sin^2 yaw)
    # In jittered crops of a spread it is spread_factor spread^spread_power times as large.
    spread_factor: float
    spread_power: float

    def factor_of_crop(self, uv_crop: NDArray[np.floating]) -> Array:
        """Factors (N,) of `cov_crop` for keypoints (N, 478, 2) px in a crop."""
        return np.exp(self.turn_gain * apparent_turn(uv_crop).astype(np.float64) ** 2)

    def of_average(self, spread: Array) -> Array:
        """Covariances (N, 478, 2, 2) px^2 of the mean of crops with a spread (N,) px^2."""
        factor = self.spread_factor * spread.clip(min=_MIN_SPREAD) ** self.spread_power
        return factor[:, None, None, None] * self.cov_crop


def apparent_turn(uv: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N,) about the sine of |yaw| of upright faces, from keypoints (N, 478, 2) in a crop."""
    between_ears = 0.5 * (uv[:, _EAR_RIGHT, 0] + uv[:, _EAR_LEFT, 0])
    height = np.linalg.norm(uv[:, _CHIN] - uv[:, _HAIRLINE], axis=-1).clip(min=1.0)
    sideways = np.abs(uv[:, _NOSE_TIP, 0] - between_ears)
    return (sideways / (_NOSE_LENGTH * height)).clip(max=1.0)


def keypoint_uncertainty() -> KeypointUncertainty:
    """The packaged one."""
    weights = load_weights('keypoint_uncertainty')
    return KeypointUncertainty(
        weights['cov_crop'].astype(np.float64),
        *(float(weights[name]) for name in ('turn_gain', 'spread_factor', 'spread_power')),
    )
