# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What trained hourglasses say, as differentiable tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from face_pose_lab.hourglass.network import HourglassOptions
from face_pose_lab.torch_keypoints.heatmaps import TARGET_SIGMA


def positive_heatmaps(maps: Tensor, options: HourglassOptions) -> Tensor:
    """What the network gave as heatmaps in which a keypoint that is sure has a peak of 1.

    Args:
        maps: (..., H, W).
        options: Of the network.
    """
    if not options.distribution:
        return maps
    probability = maps.flatten(-2).softmax(-1).view_as(maps)
    return 2 * math.pi * TARGET_SIGMA**2 * probability


_SUREST = 0.999  # about one in a thousand crops of anything looks like a head


@dataclass(frozen=True)
class KeypointCalibration:
    """What is measured of a trained network, on heads that it has never seen."""

    cov_gain: float  # covariance = cov_gain * the network's + cov_floor_px2 * identity
    cov_floor_px2: float  # of the crop
    presence_slope: float  # presence = logistic(slope * (mean confidence - middle))
    presence_middle: float
    independent_keypoints: float  # see `PoseOptions`

    def covariance(self, cov_uv: Tensor) -> Tensor:
        """Of keypoints of which the network says these covariances (..., 2, 2) px^2."""
        eye = torch.eye(2, dtype=cov_uv.dtype, device=cov_uv.device)
        return self.cov_gain * cov_uv + self.cov_floor_px2 * eye

    def presence(self, confidence: Tensor) -> Tensor:
        """(N,) in [0, 1], from the confidences (N, K) of the keypoints."""
        logit = self.presence_slope * (confidence.mean(-1) - self.presence_middle)
        return logit.sigmoid().clamp_max(_SUREST)
