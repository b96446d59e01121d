# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoint network: an upright crop of a head -> its semantic keypoints, from every side.

Plain convolutions and ReLU, the grid halved at the start of every stage, one vector of all cells
at the end (as plain as the five-stage network of Feng et al., "Wing Loss for Robust Facial
Landmark Localisation", CVPR 2018). No depthwise convolutions, no parametric activations and no
thin grids of high resolution: CPUs compute this shape at full speed in float32, bfloat16 and int8
alike. Batch normalisation is folded into the layers before it by `fused`, so that inference knows
convolutions, ReLU and two matrices only.

The crop is one of `face_pose_ros.geometry.crops`: a virtual pinhole camera looks at the middle of
the face and is rolled until the face stands upright. Its side is MARGIN times the longer side of
the bounds of the face's keypoints (`semantic.IS_FACE`). RGB in [0, 1], (N, 3, 128, 128); pixel
(0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

CROP_PX = 128
MARGIN = 1.5
KEYPOINTS = 86
NUMBERS = 5  # per keypoint: u, v, and three of its covariance
_STEP = 0.1  # of the crop's side: how far a keypoint moves where the network says 1
_UNIT = 1 / 64  # of the crop's side: standard deviation where the network says 0
_MAX_LOG = 3.0  # of a standard deviation over the unit, up or down


class Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU if asked for.

    3x3; 4x4 where it halves the grid, for even windows are centred on the cells of the next one.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        kernel = 3 if stride == 1 else 4
        self.convolution = nn.Conv2d(c_in, c_out, kernel, stride, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(c_out)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        x = self.norm(self.convolution(x))
        return x.relu() if self.relu else x


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels)
        self.second = Convolution(channels, channels, relu=False)
        assert isinstance(self.second.norm, nn.BatchNorm2d)
        nn.init.zeros_(self.second.norm.weight)  # begins as the shortcut alone

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return (x + self.second(self.first(x))).relu()


class KeypointNetwork(nn.Module):
    """Crops -> numbers (N, 5 K + 7) for `read_head`."""

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 112, 176),
        blocks: Sequence[int] = (0, 1, 1, 1, 1),
        hidden: int = 256,
    ) -> None:
        """Build with random weights.

        Args:
            channels: Of each stage; a stage halves the grid.
            blocks: Residual pairs of each stage.
            hidden: Width of the vector that all cells together become.
        """
        super().__init__()
        stages: list[nn.Module] = []
        for c_in, c_out, count in zip((3, *channels), channels, blocks, strict=False):
            stages += [Convolution(c_in, c_out, 2), *(Residual(c_out) for _ in range(count))]
        self.stages = nn.Sequential(*stages)
        cells = (CROP_PX // 2 ** len(channels)) ** 2
        self.all_cells = nn.Linear(cells * channels[-1], hidden, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(hidden)
        self.last = nn.Linear(hidden, NUMBERS * KEYPOINTS + 7)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, crop: Tensor) -> Tensor:
        """Map (N, 3, 128, 128) RGB in [0, 1] to (N, 5 K + 7)."""
        cells = self.stages(crop).flatten(1)
        return self.last(self.norm(self.all_cells(cells)).relu())


class ReadHead(NamedTuple):
    """What the network says of N crops."""

    uv: Tensor  # (N, K, 2) px of the crop, also outside of it
    cholesky: Tensor  # (N, K, 2, 2) px, lower triangles L; the covariance is L L^T
    presence_logit: Tensor  # (N,)
    columns: Tensor  # (N, 6): the first two columns of R_crop_head, not yet orthogonal


def read_head(numbers: Tensor) -> ReadHead:
    """What the numbers (N, 5 K + 7) of crops mean."""
    points = numbers[:, :-7].unflatten(1, (KEYPOINTS, NUMBERS))
    uv = 0.5 * (CROP_PX - 1) + _STEP * CROP_PX * points[..., :2]
    a, d = points[..., 2:4].clamp(-_MAX_LOG, _MAX_LOG).exp().unbind(-1)
    # Any such factor makes a covariance, and every covariance has one.
    L = torch.stack([a, torch.zeros_like(a), points[..., 4] * d, d], -1).unflatten(-1, (2, 2))
    return ReadHead(uv, _UNIT * CROP_PX * L, numbers[:, -7], numbers[:, -6:])


def of_mirrored(numbers: Tensor, mirror: Tensor) -> Tensor:
    """What the numbers (N, 5 K + 7) of mirrored crops say of the crops.

    Args:
        numbers: Of the mirrored crops.
        mirror: (K,) which keypoint of a mirrored head is which.
    """
    points = numbers[:, :-7].unflatten(1, (KEYPOINTS, NUMBERS))[:, mirror]
    points = torch.cat([-points[..., :1], points[..., 1:4], -points[..., 4:]], -1)
    # The camera's x and the head's y change sign: of the second column all but the camera's x.
    presence, x, same, other = numbers[:, -7:].split([1, 1, 3, 2], 1)
    return torch.cat([points.flatten(1), presence, -x, same, -other], 1)


def fused(network: KeypointNetwork) -> KeypointNetwork:
    """A copy for inference, whose convolutions contain what batch normalisation did."""
    copy = KeypointNetwork(*_sizes(network))
    copy.load_state_dict(network.state_dict())
    for module in copy.modules():
        if isinstance(module, Convolution):
            assert isinstance(module.norm, nn.BatchNorm2d)
            module.convolution = nn.utils.fuse_conv_bn_eval(
                module.convolution.eval(), module.norm.eval()
            )
            module.norm = nn.Identity()
    assert isinstance(copy.norm, nn.BatchNorm1d)
    copy.all_cells = nn.utils.fuse_linear_bn_eval(copy.all_cells.eval(), copy.norm.eval())
    copy.norm = nn.Identity()
    return copy.requires_grad_(False).eval()


def _sizes(network: KeypointNetwork) -> tuple[list[int], list[int], int]:
    channels: list[int] = []
    blocks: list[int] = []
    for module in network.stages:
        if isinstance(module, Convolution):
            channels.append(module.convolution.out_channels)
            blocks.append(0)
        else:
            blocks[-1] += 1
    return channels, blocks, network.all_cells.out_features
