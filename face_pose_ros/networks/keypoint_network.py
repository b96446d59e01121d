# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoint network: an upright crop of a head -> its semantic keypoints, from every side.

Plain convolutions and ReLU, the grid halved at the start of every stage, one vector of all cells
at the end (as plain as the five-stage network of Feng et al., "Wing Loss for Robust Facial
Landmark Localisation", CVPR 2018). Batch normalisation is folded into the layers before it by
`fused`, so that inference knows convolutions, ReLU and two matrices only.

Input and output are described in `keypoints.network_output`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from face_pose_ros.keypoints.network_output import FURTHER, INPUT_PX, KEYPOINTS, NUMBERS
from face_pose_ros.networks.layers import Convolution, Residual, fuse_convolutions
from face_pose_ros.networks.packaged import with_weights


class KeypointNetwork(nn.Module):
    """Crops -> numbers (N, 5 K + 7)."""

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
        cells = (INPUT_PX // 2 ** len(channels)) ** 2
        self.all_cells = nn.Linear(cells * channels[-1], hidden, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(hidden)
        self.last = nn.Linear(hidden, NUMBERS * KEYPOINTS + FURTHER)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, crop: Tensor) -> Tensor:
        """Map (N, 3, 128, 128) RGB in [0, 1] to (N, 5 K + 7)."""
        cells = self.stages(crop).flatten(1)
        return self.last(self.norm(self.all_cells(cells)).relu())


def fused(network: KeypointNetwork) -> KeypointNetwork:
    """A copy for inference, with batch normalisation folded into the convolutions."""
    copy = KeypointNetwork(*_sizes(network))
    copy.load_state_dict(network.state_dict())
    fuse_convolutions(copy)
    assert isinstance(copy.norm, nn.BatchNorm1d)
    copy.all_cells = nn.utils.fuse_linear_bn_eval(copy.all_cells.eval(), copy.norm.eval())
    copy.norm = nn.Identity()
    return copy.requires_grad_(False).eval()


def packaged_keypoint_network(
    device: torch.device | str = 'cpu', own: Path | str | None = None
) -> KeypointNetwork:
    """Build the fused network with the packaged weights, or one's own, for inference only.

    Raises:
        WeightsError: As in `with_weights`.
    """
    return with_weights(fused(KeypointNetwork().eval()), 'keypoint_network', device, own)


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
