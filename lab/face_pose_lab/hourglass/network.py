# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stacked hourglass: a square crop -> one heatmap per semantic keypoint.

Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016, as used by
Pavlakos et al., "6-DoF Object Pose from Semantic Keypoints", ICRA 2017. Each hourglass goes down
to the whole face and up again, and hands its heatmaps to the next one, which corrects them; every
one of them is supervised.

Different from the papers: the stem halves by strided convolutions of even size, whose windows are
centred on the cells of the next grid, so that the network has no preferred side; the channels may
grow towards the coarse grids; residual blocks without a bottleneck are possible. Both make it
cheaper on CPUs, and neither is in the way of the papers' own sizes (`HourglassOptions()`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_pose_lab.hourglass.numbers import INPUT_PX
from face_pose_lab.hourglass.regressor import KeypointRegressor, mirror_averaged
from face_pose_lab.weights import load_weights
from face_pose_ros.keypoints import semantic
from face_pose_ros.networks.packaged import with_tensors


@dataclass(frozen=True)
class HourglassOptions:
    """Sizes of the network; the defaults are those of Pavlakos et al. (two stacks)."""

    keypoints: int
    input_px: int = 256  # side of the crop
    stem_channels: Sequence[int] = (64, 128)  # the stem halves the grid once for each
    # Of the hourglass, from its finest grid, the heatmaps', to its coarsest.
    channels: Sequence[int] = (256, 256, 256, 256, 256)
    stacks: int = 2
    # Residual blocks in a row on each of these grids; the last number is that of all coarser ones.
    blocks: Sequence[int] = (1,)
    bottleneck: bool = True  # blocks of 1x1, 3x3, 1x1 with half the channels, or of two 3x3
    # Each heatmap is the logarithm of a distribution over the cells, trained by cross entropy,
    # instead of free numbers, trained by squared error as in the papers.
    distribution: bool = False
    regressor: int = 0  # width of the layer that sees all cells at once; 0: heatmaps only

    def __post_init__(self) -> None:
        for name in ('keypoints', 'input_px', 'stacks'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')
        for name in ('stem_channels', 'channels'):
            if not getattr(self, name) or min(getattr(self, name)) < 2:
                raise ValueError(f'{name} must be numbers from 2 on, got {getattr(self, name)}')
        if not 1 <= len(self.blocks) <= len(self.channels) or min(self.blocks) < 1:
            raise ValueError(
                f'blocks must be 1 to {len(self.channels)} numbers from 1 on, got {self.blocks}'
            )
        if self.regressor and not self.distribution:
            raise ValueError('a regressor needs heatmaps that are distributions (distribution)')
        multiple = self.stride * 2 ** (len(self.channels) - 1)
        if self.input_px % multiple:
            raise ValueError(
                f'input_px must be a multiple of {multiple} for {len(self.stem_channels)} stem '
                f'and {len(self.channels)} hourglass channels, got {self.input_px}'
            )

    @property
    def stride(self) -> int:
        """Crop pixels per heatmap cell."""
        return 2 ** len(self.stem_channels)

    @property
    def heatmap_px(self) -> int:
        """Side of the heatmaps [cells]."""
        return self.input_px // self.stride


class Residual(nn.Module):
    """BatchNorm, ReLU, convolution, twice or three times, around a shortcut (He et al. 2016b)."""

    def __init__(self, c_in: int, c_out: int, bottleneck: bool) -> None:
        super().__init__()
        widths = (c_in, c_out // 2, c_out // 2, c_out) if bottleneck else (c_in, c_out, c_out)
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        layers: list[nn.Module] = []
        for a, b, kernel in zip(widths, widths[1:], kernels, strict=False):
            layers += [nn.BatchNorm2d(a), nn.ReLU(), _conv(a, b, kernel)]
        self.branch = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if c_in == c_out else _conv(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return self.shortcut(x) + self.branch(x)


class Hourglass(nn.Module):
    """Down to the coarsest grid and up again, a shortcut at every grid."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int], bottleneck: bool) -> None:
        super().__init__()
        fine, *rest = channels
        self.same = _residuals(fine, fine, blocks[0], bottleneck)
        self.has_inner = bool(rest)
        if rest:
            coarser = blocks[1:] or blocks
            self.down = _residuals(fine, rest[0], coarser[0], bottleneck)
            self.inner = Hourglass(rest, coarser, bottleneck)
            self.up = _residuals(rest[0], fine, coarser[0], bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels[0], H, W) to the same shape."""
        if not self.has_inner:
            return self.same(x)
        below = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        return self.same(x) + F.interpolate(below, scale_factor=2, mode='nearest')


class HourglassOutput(NamedTuple):
    """Output of the network for N crops."""

    # (N, stacks, keypoints, heatmap_px, heatmap_px), the last stack's being the best: see
    # `positive_heatmaps`.
    heatmaps: Tensor
    regression: Tensor | None  # (N, 5 * keypoints + 6): see `read_regression`


class StackedHourglass(nn.Module):
    """A crop -> heatmaps of each keypoint, and what is regressed from the last features."""

    def __init__(self, options: HourglassOptions) -> None:
        super().__init__()
        self.options = options
        c, count = options.channels[0], options.keypoints
        stacks, bottleneck = options.stacks, options.bottleneck
        finest = options.blocks[0]
        stem: list[nn.Module] = []
        for i, (a, b) in enumerate(
            zip((3, *options.stem_channels), options.stem_channels, strict=False)
        ):
            # 6x6 and 4x4 windows of stride 2 have their middle in the middle of a 2x2 cell.
            kernel = 6 if i == 0 else 4
            stem += [nn.Conv2d(a, b, kernel, 2, kernel // 2 - 1, bias=False), *_norm_relu(b)]
        self.stem = nn.Sequential(*stem, _residuals(b, c, finest, bottleneck))
        self.hourglasses = nn.ModuleList(
            Hourglass(options.channels, options.blocks, bottleneck) for _ in range(stacks)
        )
        self.features = nn.ModuleList(
            nn.Sequential(
                _residuals(c, c, finest, bottleneck),
                *_norm_relu(c),
                _conv(c, c, 1),
                *_norm_relu(c),
            )
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(nn.Conv2d(c, count, 1) for _ in range(stacks))
        self.merge_features = nn.ModuleList(nn.Conv2d(c, c, 1) for _ in range(stacks - 1))
        self.merge_heatmaps = nn.ModuleList(nn.Conv2d(count, c, 1) for _ in range(stacks - 1))
        self.regressor = (
            KeypointRegressor(c, options.heatmap_px, count, options.regressor)
            if options.regressor
            else None
        )

    def forward(self, crop: Tensor) -> HourglassOutput:
        """Predict keypoints.

        Args:
            crop: (N, 3, input_px, input_px) float RGB in [0, 1].

        Raises:
            ValueError: the crop's shape is not as above.
        """
        side = self.options.input_px
        if crop.ndim != 4 or crop.shape[1:] != (3, side, side):
            raise ValueError(
                f'expected crops of shape (N, 3, {side}, {side}), got {tuple(crop.shape)}'
            )
        x = self.stem(4 * crop - 2)  # about zero mean and unit variance
        every = []
        for stack, hourglass in enumerate(self.hourglasses):
            feature = self.features[stack](hourglass(x))
            heatmaps = self.heads[stack](feature)
            every.append(heatmaps)
            if stack + 1 < len(self.hourglasses):
                x = x + self.merge_features[stack](feature) + self.merge_heatmaps[stack](heatmaps)
        regression = None if self.regressor is None else self.regressor(feature, heatmaps)
        return HourglassOutput(torch.stack(every, 1), regression)


def regressing(network: StackedHourglass) -> Callable[[Tensor], Tensor]:
    """A network with a regressor: crops -> numbers (N, 5 * keypoints + 6)."""

    def numbers(crop: Tensor) -> Tensor:
        regression = network(crop).regression
        assert regression is not None
        return regression

    return numbers


class PackagedHourglass(nn.Module):
    """The trained network: crops -> what it regresses of them and of their mirror images."""

    OPTIONS = HourglassOptions(
        keypoints=86,
        input_px=INPUT_PX,
        stem_channels=(16, 32, 64),
        channels=(64, 128, 224),
        stacks=1,
        blocks=(2,),
        bottleneck=False,
        distribution=True,
        regressor=256,
    )

    def __init__(self) -> None:
        super().__init__()
        self.network = StackedHourglass(self.OPTIONS)
        self.register_buffer('mirror', torch.from_numpy(semantic.MIRROR), persistent=False)

    def forward(self, crop: Tensor) -> Tensor:
        """Map (N, 3, 128, 128) RGB in [0, 1] to (N, 436) for `read_regression`."""
        assert isinstance(self.mirror, Tensor)
        return mirror_averaged(regressing(self.network), crop, self.mirror)


def packaged_hourglass(device: torch.device | str = 'cpu') -> PackagedHourglass:
    """Build the network with the trained weights, for inference only.

    Raises:
        WeightsError: As in `load_weights`.
    """
    hourglass = PackagedHourglass()
    with_tensors(hourglass.network, load_weights('hourglass'), device, 'hourglass')
    return hourglass.to(device).eval()


def _conv(c_in: int, c_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _residuals(c_in: int, c_out: int, blocks: int, bottleneck: bool) -> nn.Sequential:
    further = [Residual(c_out, c_out, bottleneck) for _ in range(blocks - 1)]
    for block in further:
        # So a network that begins with the layers of a shallower one begins as that one.
        *_, last = block.branch.parameters()
        nn.init.zeros_(last)
    return nn.Sequential(Residual(c_in, c_out, bottleneck), *further)
