"""Keypoints of a crop at once: where all parts of a head must lie together.

A heatmap is read cell by cell, and nothing makes the keypoints of one crop those of one head. The
regressor looks at all cells together and says every keypoint with its covariance, and the head's
rotation. Heatmaps beside it teach the features where things are, as in BlazePose (Bazarevsky et
al., "BlazePose: On-device Real-time Body Pose tracking", 2020).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from face_pose_ros.geometry import so3

_SQUEEZED = 40  # channels per cell that the regressor looks at
_NUMBERS = 5  # per keypoint: u, v, and three of the covariance
_UNIT = 1 / 32  # of the crop's side: standard deviation of a keypoint where the network says 0
_MAX_LOG = 3.0  # of a standard deviation over the unit, up or down
# First two columns of the rotation of a head that looks straight into the crop's camera.
_FRONTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0)


class RegressedHead(NamedTuple):
    """What the regressor says of N crops."""

    uv: Tensor  # (N, K, 2) px of the crop, also outside of it
    cov_uv: Tensor  # (N, K, 2, 2) px^2
    R_crop_head: Tensor  # (N, 3, 3), of the crop's camera


class KeypointRegressor(nn.Module):
    """Features of an hourglass -> numbers that `read_regression` reads."""

    def __init__(self, channels: int, side: int, keypoints: int, hidden: int) -> None:
        """Build with random weights.

        Args:
            channels: Of the features.
            side: Of their grid [cells], even.
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
            nn.Linear(_SQUEEZED * (side // 2) ** 2, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
        )
        self.last = nn.Linear(hidden, _NUMBERS * keypoints + 6)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, channels, side, side) to (N, 5 K + 6)."""
        hidden = self.all_cells(self.cells(features).flatten(1))
        # Half precision would round the keypoints to a quarter of a pixel.
        with torch.autocast(features.device.type, enabled=False):
            return self.last(hidden.float())


def read_regression(numbers: Tensor, size_px: int) -> RegressedHead:
    """What the numbers (N, 5 K + 6) say of crops of size_px."""
    points = numbers[:, :-6].unflatten(1, (-1, _NUMBERS))
    middle = 0.5 * (size_px - 1)
    uv = middle + 0.5 * size_px * points[..., :2]
    a, d = points[..., 2:4].clamp(-_MAX_LOG, _MAX_LOG).exp().unbind(-1)
    # The covariance's Cholesky factor: any covariance, and no other matrix.
    L = torch.stack([a, torch.zeros_like(a), points[..., 4] * d, d], -1).unflatten(-1, (2, 2))
    cov_uv = (_UNIT * size_px) ** 2 * L @ L.mT
    columns = numbers[:, -6:] + numbers.new_tensor(_FRONTAL)
    return RegressedHead(uv, cov_uv, so3.from_columns(columns))
