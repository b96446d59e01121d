# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of the project's own networks: plain convolutions, which every CPU and engine runs fast.

No depthwise convolutions and no parametric activations. Batch normalisation is part of a layer
during training and folded into its weights for inference (`fuse`).
"""

from __future__ import annotations

from torch import Tensor, nn


class Convolution(nn.Module):
    """Convolution, batch normalisation, optionally ReLU.

    By default 3x3, or 4x4 where it halves the grid: even windows are centred on the cells of the
    next grid.
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int = 1, relu: bool = True, kernel: int | None = None
    ) -> None:
        super().__init__()
        kernel = kernel or (3 if stride == 1 else 4)
        padding = (kernel - 1) // 2
        self.convolution = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(c_out)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        x = self.norm(self.convolution(x))
        return x.relu() if self.relu else x

    def fuse(self) -> None:
        """Fold the normalisation into the convolution, which gets a bias."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.convolution = nn.utils.fuse_conv_bn_eval(self.convolution.eval(), self.norm.eval())
        self.norm = nn.Identity()


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


def fuse_convolutions(network: nn.Module) -> None:
    """Fold the normalisation of every `Convolution` of a network into its weights."""
    for module in network.modules():
        if isinstance(module, Convolution):
            module.fuse()
