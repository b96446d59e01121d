# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The head detector's network: an image -> a score and a pose in every cell of four grids.

A residual backbone with a feature pyramid (Lin et al., CVPR 2017) and one head that all grids
share, as in FCOS (Tian et al., ICCV 2019). `faces.head_cells` says what its numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_pose_ros.faces.head_cells import FRONTAL_COLUMNS, NUMBERS, SIZE_MULTIPLE, STRIDES
from face_pose_ros.networks.layers import Convolution, Residual, fuse_convolutions
from face_pose_ros.networks.packaged import with_weights

_LOG_SIZE = 1.2  # initial output: a head of 3.3 cells
_RARE = -4.6  # initial logit: a score of 0.01 (Lin et al., "Focal Loss", ICCV 2017)


@dataclass(frozen=True)
class HeadDetectorSizes:
    """Channels and depth; the defaults are those of the packaged network."""

    channels: Sequence[int] = (16, 32, 64, 96, 128, 128)  # at strides 2, 4, 8, 16, 32, 64
    pyramid: int = 48  # channels of the feature pyramid
    tower: int = 2  # convolutions of the head


class HeadDetectorNetwork(nn.Module):
    """An image -> the numbers of every cell."""

    def __init__(self, sizes: HeadDetectorSizes | None = None) -> None:
        """Build with random weights."""
        super().__init__()
        sizes = sizes or HeadDetectorSizes()
        self.sizes = sizes
        c, width = sizes.channels, sizes.pyramid
        self.stem = nn.Sequential(
            Convolution(3, c[0], stride=2, kernel=6), Convolution(c[0], c[1], stride=2)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(Convolution(a, b, stride=2), Residual(b)) for a, b in pairwise(c[1:])
        )
        self.lateral = nn.ModuleList(nn.Conv2d(b, width, 1) for b in c[2:])
        self.smooth = nn.ModuleList(Convolution(width, width) for _ in c[2:])
        self.tower = nn.Sequential(*(Convolution(width, width) for _ in range(sizes.tower)))
        self.last = nn.Conv2d(width, NUMBERS, 3, padding=1)
        nn.init.normal_(self.last.weight, std=0.01)
        assert self.last.bias is not None
        with torch.no_grad():
            start = [_RARE, 0, 0, _LOG_SIZE, *FRONTAL_COLUMNS]
            self.last.bias.copy_(torch.tensor(start + [0.0] * (NUMBERS - len(start))))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images to the numbers of their cells.

        Args:
            images: (N, 3, H, W) float RGB in [0, 1], H and W multiples of SIZE_MULTIPLE and not
                less than the largest stride.

        Returns:
            For each stride (N, NUMBERS, H // stride, W // stride).

        Raises:
            ValueError: The shape is not as above.
        """
        if images.ndim != 4 or any(
            side % SIZE_MULTIPLE or side < STRIDES[-1] for side in images.shape[2:]
        ):
            raise ValueError(
                f'expected images of shape (N, 3, H, W), H and W multiples of {SIZE_MULTIPLE} and '
                f'at least {STRIDES[-1]}, got {tuple(images.shape)}'
            )
        x = self.stem(4 * images - 2)
        grids = []
        for stage in self.stages:
            x = stage(x)
            grids.append(x)
        features = [lateral(grid) for lateral, grid in zip(self.lateral, grids, strict=True)]
        # The coarsest grid stands alone: its cells do not tile those of the next one exactly.
        for fine in range(len(features) - 3, -1, -1):
            features[fine] = features[fine] + F.interpolate(features[fine + 1], scale_factor=2)
        return tuple(
            self.last(self.tower(smooth(feature)))
            for smooth, feature in zip(self.smooth, features, strict=True)
        )


def fused(network: HeadDetectorNetwork) -> HeadDetectorNetwork:
    """A copy for inference, whose convolutions contain what batch normalisation did."""
    copy = HeadDetectorNetwork(network.sizes)
    copy.load_state_dict(network.state_dict())
    fuse_convolutions(copy)
    return copy.requires_grad_(False).eval()


def packaged_head_detector(
    device: torch.device | str = 'cpu', own: Path | str | None = None
) -> HeadDetectorNetwork:
    """Build the fused network with the packaged weights, or one's own, for inference only.

    Raises:
        WeightsError: As in `with_weights`.
    """
    return with_weights(fused(HeadDetectorNetwork().eval()), 'head_detector', device, own)
