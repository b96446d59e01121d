# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Initial weights from the packaged region network.

That network was trained on about five million pictures of rendered heads, 64 px, upright and
centred, and has the same layers except for the first stage. The first stage is initialised to the
mean of 2x2 pixels in three channels, so that the other layers start with an image of half the
resolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from face_pose_ros.faces.region_pose import FRONTAL_COLUMNS
from face_pose_ros.keypoints.network_output import FURTHER, KEYPOINTS, NUMBERS
from face_pose_ros.networks.keypoint_network import Convolution, KeypointNetwork, Residual
from face_pose_ros.networks.region_pose import packaged_region_pose

_HALF_SIDE = 5.0  # unit of the region network (half the side) in steps of this network
_SCORE, _COLUMNS, _PLACES = 0, slice(4, 10), 16  # indices of its numbers


@torch.no_grad()
def begin_with_region_pose(network: KeypointNetwork) -> None:
    """Fill the weights of a new network of the default sizes."""
    region = packaged_region_pose().network
    (first, _), *stages = _stages(network)
    _average_pixels(first)
    # Convolution, norm, ReLU of each stage, then its blocks, whose layers are their `body`.
    theirs: list[Any] = list(region.features)
    for number, (halving, residuals) in enumerate(stages):
        convolution, norm, _ = theirs[:3]
        theirs = theirs[3:]
        if number == 0:
            # Its input was 4 x - 2 and becomes x; only the centre of its kernel is used.
            weight = convolution.weight
            halving.convolution.weight[:, 3:].mul_(0.1)
            halving.convolution.weight[:, :3] = 4 * weight[:, :, 1:-1, 1:-1]
            shift = 2 * weight[:, :, 1:-1, 1:-1].sum((1, 2, 3))
        else:
            halving.convolution.weight.copy_(convolution.weight)
            shift = torch.zeros_like(norm.running_mean)
        _copy_norm(halving.norm, norm, shift)
        while theirs and not isinstance(theirs[0], nn.Conv2d):
            body = theirs.pop(0).body
            if residuals:
                residual = residuals.pop(0)
                for part, at in ((residual.first, 0), (residual.second, 3)):
                    part.convolution.weight.copy_(body[at].weight)
                    _copy_norm(part.norm, body[at + 1])
    linear, norm, _ = region.all_cells
    assert isinstance(linear, nn.Linear)
    network.all_cells.weight.copy_(linear.weight)
    _copy_norm(network.norm, norm)
    assert region.keypoints is not None
    for mine, places, numbers in (
        (network.last.weight, region.keypoints.weight, region.last.weight),
        (network.last.bias, region.keypoints.bias, region.last.bias),
    ):
        assert places.shape[0] == 2 * KEYPOINTS
        assert region.last.out_features == _PLACES
        points = mine[:-FURTHER].unflatten(0, (KEYPOINTS, NUMBERS))
        points[:, :2] = _HALF_SIDE * places.unflatten(0, (KEYPOINTS, 2))
        mine[-FURTHER] = numbers[_SCORE]
        mine[-6:] = numbers[_COLUMNS]
    network.last.bias[-6:] += torch.tensor(FRONTAL_COLUMNS)


def _average_pixels(first: Convolution) -> None:
    """Let three channels give the picture at half its resolution, at the start of training."""
    assert isinstance(first.norm, nn.BatchNorm2d)
    first.convolution.weight[:3] = 0
    for channel in range(3):
        first.convolution.weight[channel, channel, 1:3, 1:3] = 0.25
    # Typical statistics of colours: mean 0.45, standard deviation 0.28.
    first.norm.weight[:3] = first.norm.get_buffer('running_var')[:3].fill_(0.28**2).sqrt()
    first.norm.bias[:3] = first.norm.get_buffer('running_mean')[:3].fill_(0.45)


def _copy_norm(mine: nn.Module, theirs: nn.Module, shift: Tensor | float = 0.0) -> None:
    mine.load_state_dict(theirs.state_dict())
    mine.get_buffer('running_mean').add_(shift)


def _stages(network: KeypointNetwork) -> list[tuple[Convolution, list[Residual]]]:
    """The convolution of each stage that halves the grid, and the blocks after it."""
    stages: list[tuple[Convolution, list[Residual]]] = []
    for module in network.stages:
        if isinstance(module, Residual):
            stages[-1][1].append(module)
        else:
            assert isinstance(module, Convolution)
            stages.append((module, []))
    return stages
