# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Averaged weights: smoother than the last ones, and what is validated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn


class AveragedNetwork:
    """Exponential moving average of a network's parameters and statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step; the first steps are forgotten sooner."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, value in zip(
            self.network.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
