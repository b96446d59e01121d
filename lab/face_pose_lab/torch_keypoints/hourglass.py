# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Output of trained hourglasses, as differentiable tensors."""

from __future__ import annotations

import math

from torch import Tensor

from face_pose_lab.hourglass.network import HourglassOptions
from face_pose_lab.torch_keypoints.heatmaps import TARGET_SIGMA


def positive_heatmaps(maps: Tensor, options: HourglassOptions) -> Tensor:
    """Output of the network as heatmaps, in which a certain keypoint has a peak of 1.

    Args:
        maps: (..., H, W).
        options: Of the network.
    """
    if not options.distribution:
        return maps
    probability = maps.flatten(-2).softmax(-1).view_as(maps)
    return 2 * math.pi * TARGET_SIGMA**2 * probability
