# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints of a crop at once: where all parts of a head must lie together.

Nothing makes the keypoints of one crop's heatmaps those of one head. The regressor takes the mean
place of each heatmap (Sun et al., "Integral Human Pose Regression", ECCV 2018), looks at all of
them and all cells together, and says how far each keypoint is from there, its covariance, and the
head's rotation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_SQUEEZED = 40  # channels per cell in the regressor's input
_NUMBERS = 5  # per keypoint: u, v, and three of the covariance


class KeypointRegressor(nn.Module):
    """Features and heatmaps of an hourglass -> numbers that `read_regression` reads."""

    def __init__(self, channels: int, side: int, keypoints: int, hidden: int) -> None:
        """Build with random weights.

        Args:
            channels: Of the features.
            side: Of their grid [cells].
            keypoints: K.
            hidden: Width of the layer that sees all cells.
        """
        super().__init__()
        self.cells = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Conv2d(2 * channels, _SQUEEZED, 1, bias=False),
            nn.BatchNorm2d(_SQUEEZED),
            nn.ReLU(),
        )
        self.all_cells = nn.Sequential(
            nn.Linear(_SQUEEZED * (side // 2) ** 2 + 2 * keypoints, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
        )
        self.last = nn.Linear(hidden, _NUMBERS * keypoints + 6)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor, log_heatmaps: Tensor) -> Tensor:
        """Say all about N crops.

        Args:
            features: (N, channels, side, side).
            log_heatmaps: (N, K, side, side), logarithms of distributions up to a constant.

        Returns:
            (N, 5 K + 6).
        """
        # bfloat16 would round the keypoints to a quarter of a pixel.
        with torch.autocast(features.device.type, enabled=False):
            mean = _mean_places(log_heatmaps.float())
        hidden = self.all_cells(torch.cat([self.cells(features).flatten(1), mean.flatten(1)], 1))
        with torch.autocast(features.device.type, enabled=False):
            points, columns = self.last(hidden.float()).split([_NUMBERS * mean.shape[1], 6], 1)
            points = points.unflatten(1, (-1, _NUMBERS))
            points = torch.cat([points[..., :2] + mean, points[..., 2:]], -1)
            return torch.cat([points.flatten(1), columns], 1)


def _mean_places(log_heatmaps: Tensor) -> Tensor:
    """(N, K, 2) from the middle of (N, K, side, side), over half the side."""
    side = log_heatmaps.shape[-1]
    probability = log_heatmaps.flatten(-2).softmax(-1).view_as(log_heatmaps)
    places = torch.arange(side, device=log_heatmaps.device) - 0.5 * (side - 1)
    places = places.to(log_heatmaps) / (0.5 * side)
    u, v = probability.sum(-2) @ places, probability.sum(-1) @ places
    return torch.stack([u, v], -1)


def mirror_averaged(network: Callable[[Tensor], Tensor], crop: Tensor, mirror: Tensor) -> Tensor:
    """Mean of what a network says of crops and of their mirror images.

    Args:
        network: Crops -> numbers (N, 5 K + 6).
        crop: (N, 3, S, S).
        mirror: (K,) which keypoint of a mirrored head is which.

    Returns:
        (N, 5 K + 6) for `read_regression`.
    """
    own, mirrored = network(torch.cat([crop, crop.flip(-1)])).chunk(2)
    return 0.5 * (own + of_mirrored(mirrored, mirror))


def of_mirrored(numbers: Tensor, mirror: Tensor) -> Tensor:
    """Output (N, 5 K + 6) for crops, from that for their mirror images."""
    points = numbers[:, :-6].unflatten(1, (-1, _NUMBERS))[:, mirror]
    # Not by constants: a CUDA graph can't take them from the CPU.
    points = torch.cat([-points[..., :1], points[..., 1:4], -points[..., 4:]], -1)
    # The camera's x and the head's y change sign: of the second column all but the camera's x.
    x, same, other = numbers[:, -6:].split([1, 3, 2], 1)
    return torch.cat([points.flatten(1), -x, same, -other], 1)
