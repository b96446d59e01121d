# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The second look's network: a region of a picture -> score and pose of the head in it.

`faces.region_pose` says what its numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from face_pose_ros.faces.region_pose import REGION_PX
from face_pose_ros.networks.packaged import with_weights
from face_pose_ros.networks.single_shot import Residual, strided

_NUMBERS = 16  # score, u, v, log size, two columns of the rotation, six logarithms of sigma


@dataclass(frozen=True)
class RegionPoseOptions:
    """Sizes of the network."""

    channels: Sequence[int] = (32, 64, 112, 176)  # at strides 2, 4, 8, 16
    blocks: Sequence[int] = (1, 1, 2, 1)  # residual blocks at each
    hidden: int = 256  # width of the layer that sees all cells at once
    # Semantic keypoints to learn beside the pose, for where a head's parts are says how it is
    # turned. The detector does not read them.
    keypoints: int = 0

    def __post_init__(self) -> None:
        for name in ('channels', 'blocks'):
            values = getattr(self, name)
            if len(values) != 4 or min(values) < 1:
                raise ValueError(f'{name} must be 4 positive numbers, got {values}')
        if self.hidden < 1:
            raise ValueError(f'hidden must be at least 1, got {self.hidden}')
        if self.keypoints < 0:
            raise ValueError(f'keypoints must not be negative, got {self.keypoints}')


PACKAGED = RegionPoseOptions(keypoints=86)


class RegionPose(nn.Module):
    """Pictures of regions -> numbers that `read_regions` reads."""

    def __init__(self, options: RegionPoseOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or RegionPoseOptions()
        widths = (3, *options.channels)
        layers: list[nn.Module] = []
        for i, ((a, b), blocks) in enumerate(zip(pairwise(widths), options.blocks, strict=True)):
            # Even windows are centred on the cells of the next grid.
            layers += strided(a, b, 6 if i == 0 else 4)
            layers += [Residual(b) for _ in range(blocks)]
        self.features = nn.Sequential(*layers)
        cells = (REGION_PX // 2 ** len(options.channels)) ** 2
        self.all_cells = nn.Sequential(
            nn.Linear(cells * widths[-1], options.hidden, bias=False),
            nn.BatchNorm1d(options.hidden),
            nn.ReLU(),
        )
        self.last = nn.Linear(options.hidden, _NUMBERS)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)
        self.keypoints = (
            nn.Linear(options.hidden, 2 * options.keypoints) if options.keypoints else None
        )

    def forward(self, regions: Tensor) -> Tensor:
        """Look at regions.

        Args:
            regions: (N, 3, REGION_PX, REGION_PX) float RGB in [0, 1].

        Returns:
            (N, 16 + 2 K), see `read_regions` and `read_keypoints`.

        Raises:
            ValueError: The shape is not as above.
        """
        if regions.ndim != 4 or regions.shape[1:] != (3, REGION_PX, REGION_PX):
            raise ValueError(
                f'expected regions of shape (N, 3, {REGION_PX}, {REGION_PX}), '
                f'got {tuple(regions.shape)}'
            )
        hidden = self.all_cells(self.features(4 * regions - 2).flatten(1))
        with torch.autocast(regions.device.type, enabled=False):
            layers = (self.last, self.keypoints) if self.keypoints else (self.last,)
            return torch.cat([layer(hidden.float()) for layer in layers], 1)


class MirrorAveraged(nn.Module):
    """Regions -> the mean (N, 16) of what the network says of them and of their mirror images."""

    def __init__(self, network: RegionPose) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor) -> Tensor:
        """Of regions as `RegionPose` takes them, for `read_regions`."""
        numbers = self.network(torch.cat([regions, regions.flip(-1)]))[:, :_NUMBERS]
        own, mirrored = numbers.chunk(2)
        return 0.5 * (own + of_mirrored(mirrored))


def of_mirrored(numbers: Tensor) -> Tensor:
    """What numbers (N, 16) of mirrored regions say of the regions."""
    # Not by constants: a CUDA graph can't take them from the CPU. The camera's x and the head's y
    # change sign: of the second column all but the camera's x.
    score, u, same, x, columns, other, sigma = numbers.split([1, 1, 2, 1, 3, 2, 6], 1)
    return torch.cat([score, -u, same, -x, columns, -other, sigma], 1)


def packaged_region_pose(
    device: torch.device | str = 'cpu', own: Path | str | None = None
) -> MirrorAveraged:
    """Build the network with the packaged weights, or one's own, for inference only.

    Raises:
        WeightsError: As in `with_weights`.
    """
    return MirrorAveraged(with_weights(RegionPose(PACKAGED), 'region_pose', device, own))
