# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The single-shot network: a picture -> a score and a pose in every cell of three grids.

`faces.single_shot` says what its numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_pose_ros.faces.region_pose import FRONTAL_COLUMNS
from face_pose_ros.faces.single_shot import SIZE_MULTIPLE, STRIDES
from face_pose_ros.networks.packaged import with_weights

_NUMBERS = 10  # score, u, v, log size, two columns of the rotation


@dataclass(frozen=True)
class SingleShotOptions:
    """Sizes of the network; the defaults fit a CPU."""

    channels: Sequence[int] = (24, 48, 96, 160, 192)  # backbone: strides 2, 4, 8, 16, 32
    blocks: int = 2  # residual blocks at strides 8, 16 and 32
    neck_channels: int = 64
    head_blocks: int = 2  # 3x3 convolutions of the head that all strides share

    def __post_init__(self) -> None:
        if len(self.channels) != 5 or min(self.channels) < 1:
            raise ValueError(f'channels must be 5 positive numbers, got {self.channels}')
        for name in ('blocks', 'neck_channels', 'head_blocks'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')


PACKAGED = SingleShotOptions((16, 32, 64, 96, 128), blocks=1, neck_channels=48, head_blocks=2)


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(channels, channels), *_conv(channels, channels)[:2])

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, channels, H, W)."""
        return F.relu(x + self.body(x))


class SingleShot(nn.Module):
    """A picture -> a pose of every cell of three grids."""

    def __init__(self, options: SingleShotOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or SingleShotOptions()
        c, neck = options.channels, options.neck_channels
        # Even windows are centred on the cells of the next grid.
        self.stem = nn.Sequential(*strided(3, c[0], 6), *strided(c[0], c[1], 4))
        self.stages = nn.ModuleList(
            nn.Sequential(*strided(a, b, 4), *[Residual(b) for _ in range(options.blocks)])
            for a, b in pairwise(c[1:])
        )
        self.lateral = nn.ModuleList(nn.Conv2d(b, neck, 1) for b in c[2:])
        self.smooth = nn.ModuleList(nn.Sequential(*_conv(neck, neck)) for _ in STRIDES)
        self.tower = nn.Sequential(
            *[layer for _ in range(options.head_blocks) for layer in _conv(neck, neck)]
        )
        self.head = nn.Conv2d(neck, _NUMBERS, 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.01)
        assert self.head.bias is not None
        with torch.no_grad():
            # A rare class: start with a score of about 0.01 (Lin et al., "Focal Loss", 2017).
            self.head.bias.copy_(torch.tensor([-4.6, 0, 0, 1.2, *FRONTAL_COLUMNS]))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Look at whole pictures.

        Args:
            pictures: (N, 3, H, W) float RGB in [0, 1], H and W multiples of SIZE_MULTIPLE.

        Returns:
            For each of STRIDES (N, 10, H / stride, W / stride); see `cell_poses`.

        Raises:
            ValueError: the shape is not as above.
        """
        if pictures.ndim != 4 or any(side % SIZE_MULTIPLE for side in pictures.shape[2:]):
            raise ValueError(
                f'expected pictures of shape (N, 3, H, W), H and W multiples of {SIZE_MULTIPLE}, '
                f'got {tuple(pictures.shape)}'
            )
        x = self.stem(4 * pictures - 2)
        grids = []
        for stage in self.stages:
            x = stage(x)
            grids.append(x)
        merged: Tensor | None = None
        outputs = []
        for grid, lateral, smooth in zip(
            reversed(grids), reversed(self.lateral), reversed(self.smooth), strict=True
        ):
            side = lateral(grid)
            merged = side if merged is None else side + F.interpolate(merged, scale_factor=2)
            outputs.append(self.head(self.tower(smooth(merged))))
        return tuple(outputs[::-1])


def packaged_single_shot(
    device: torch.device | str = 'cpu', own: Path | str | None = None
) -> SingleShot:
    """Build the network with the packaged weights, or one's own, for inference only.

    Raises:
        WeightsError: As in `with_weights`.
    """
    return with_weights(SingleShot(PACKAGED), 'single_shot', device, own)


def _conv(c_in: int, c_out: int) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(c_out), nn.ReLU()]


def strided(c_in: int, c_out: int, kernel: int) -> list[nn.Module]:
    """A convolution of stride 2; even kernels are centred on the cells of the next grid."""
    conv = nn.Conv2d(c_in, c_out, kernel, 2, kernel // 2 - 1, bias=False)
    return [conv, nn.BatchNorm2d(c_out), nn.ReLU()]
