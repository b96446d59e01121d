# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""BlazeFace full range: proposes faces in a small picture.

The network of Google's "MediaPipe BlazeFace full range" (2021): an encoder of double depthwise
blocks down to stride 32 and a decoder back to stride 4, where every cell proposes one face: a
logit, a box and six points. It is fully convolutional: 192 x 192 is the size it was published
for, every multiple of 32 is accepted here.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from face_pose_lab.weights import load_weights
from face_pose_ros.networks.packaged import with_tensors

SIZE_MULTIPLE = 32  # of both sides of an image [px], the coarsest grid of the encoder


class BlazeBlock(nn.Module):
    """Two depthwise-separable 3x3 convolutions around a residual connection.

    A stride of 2 halves the grid: the first convolution strides, the shortcut takes the maximum
    of 2x2 cells. The shortcut fills additional output channels with zeros.
    """

    def __init__(self, c_in: int, c_hidden: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.extra_channels = c_out - c_in
        # Stride 2: TFLite's SAME pads an even size only on the right and below; forward() does.
        padding = 1 if stride == 1 else 0
        self.depthwise_1 = nn.Conv2d(c_in, c_in, 3, stride, padding, groups=c_in, bias=False)
        self.pointwise_1 = nn.Conv2d(c_in, c_hidden, 1)
        self.depthwise_2 = nn.Conv2d(c_hidden, c_hidden, 3, padding=1, groups=c_hidden, bias=False)
        self.pointwise_2 = nn.Conv2d(c_hidden, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        shortcut = x
        if self.stride == 2:
            shortcut = F.max_pool2d(x, 2)
            x = F.pad(x, (0, 1, 0, 1))
        if self.extra_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.extra_channels))
        # In place where the memory is ours: these grids are memory traffic more than arithmetic.
        x = self.pointwise_1(self.depthwise_1(x)).relu_()
        return self.pointwise_2(self.depthwise_2(x)).add_(shortcut).relu_()


class Merge(nn.Module):
    """Enlarge the coarser decoder stage to twice its size and add the encoder's features."""

    def __init__(self, c_coarse: int, c_fine: int, c_out: int) -> None:
        super().__init__()
        self.from_coarse = nn.Conv2d(c_coarse, c_out, 1)
        self.from_fine = nn.Conv2d(c_fine, c_out, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Merge (N, c_coarse, H, W) and (N, c_fine, 2H, 2W) into (N, c_out, 2H, 2W)."""
        coarse = self.from_coarse(coarse).relu_()
        enlarged = F.interpolate(coarse, scale_factor=2.0, mode='bilinear', align_corners=False)
        return self.from_fine(fine).relu_().add_(enlarged)


class BlazeFaceFullRange(nn.Module):
    """RGB pictures in [-1, 1] -> one face proposal for every 4x4 input pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2)  # (N, 32, H/2, W/2)
        self.encoder_4 = nn.Sequential(  # (N, 64, H/4, W/4)
            BlazeBlock(32, 8, 32),
            BlazeBlock(32, 8, 32),
            BlazeBlock(32, 12, 48, stride=2),
            BlazeBlock(48, 12, 48),
            BlazeBlock(48, 16, 64),
        )
        self.encoder_8 = nn.Sequential(  # (N, 128, H/8, W/8)
            BlazeBlock(64, 24, 96, stride=2),
            BlazeBlock(96, 32, 128),
            BlazeBlock(128, 32, 128),
        )
        self.encoder_16 = nn.Sequential(  # (N, 256, H/16, W/16)
            BlazeBlock(128, 36, 144, stride=2),
            BlazeBlock(144, 48, 192),
            BlazeBlock(192, 64, 256),
        )
        self.encoder_32 = nn.Sequential(  # (N, 384, H/32, W/32)
            BlazeBlock(256, 96, 384, stride=2),
            BlazeBlock(384, 96, 384),
            BlazeBlock(384, 96, 384),
            BlazeBlock(384, 96, 384),
        )
        self.merge_16 = Merge(384, 256, 96)
        self.decoder_16 = nn.Sequential(BlazeBlock(96, 48, 96), BlazeBlock(96, 48, 96))
        self.merge_8 = Merge(96, 128, 64)
        self.decoder_8 = nn.Sequential(BlazeBlock(64, 32, 64), BlazeBlock(64, 32, 64))
        self.merge_4 = Merge(64, 64, 48)
        self.decoder_4 = BlazeBlock(48, 24, 48)  # (N, 48, H/4, W/4)
        self.logit_head = nn.Conv2d(48, 1, 1)
        self.regression_head = nn.Conv2d(48, 16, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Propose a face in every cell.

        Args:
            image: (N, 3, H, W) float RGB in [-1, 1]; H and W multiples of 32, 192 as published.

        Returns:
            logits: (N, C) score before the sigmoid, C = H/4 * W/4 cells in row-major order (2304).
            regressions: (N, C, 16) input px relative to the cell's centre: box centre x, y, box
                width, height, then x, y of six points; `detector` reads them.

        Raises:
            ValueError: the image's shape is not as above.
        """
        if (
            image.ndim != 4
            or image.shape[1] != 3
            or any(s % SIZE_MULTIPLE for s in image.shape[2:])
        ):
            raise ValueError(
                f'expected an image of shape (N, 3, H, W), H and W multiples of {SIZE_MULTIPLE}, '
                f'got {tuple(image.shape)}'
            )
        x = self.stem(F.pad(image, (0, 1, 0, 1))).relu_()  # TFLite's SAME for stride 2
        x_4 = self.encoder_4(x)
        x_8 = self.encoder_8(x_4)
        x_16 = self.encoder_16(x_8)
        x_32 = self.encoder_32(x_16)
        y_16 = self.decoder_16(self.merge_16(x_32, x_16))
        y_8 = self.decoder_8(self.merge_8(y_16, x_8))
        y_4 = self.decoder_4(self.merge_4(y_8, x_4))
        logits = self.logit_head(y_4).flatten(1)
        regressions = self.regression_head(y_4).flatten(2).transpose(1, 2)
        return logits, regressions


def blazeface_full_range() -> BlazeFaceFullRange:
    """Build the network with its weights, for inference only.

    Raises:
        WeightsError: As in `load_weights`.
    """
    name = 'blazeface_full_range'
    return with_tensors(BlazeFaceFullRange(), load_weights(name), 'cpu', name)
