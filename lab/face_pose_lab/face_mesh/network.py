# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Face Mesh V2: 478 points of one face in a square crop.

The network of Google's "MediaPipe Face Mesh V2" (face_landmarks_detector.tflite of
face_landmarker.task, 2023): residual bottlenecks with PReLU at seven resolutions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_pose_lab.face_mesh.points import CROP_SIZE_PX
from face_pose_lab.weights import load_weights
from face_pose_ros.keypoints.face_mesh import POINTS
from face_pose_ros.networks.packaged import with_tensors


class FaceMeshPoints(NamedTuple):
    """Output of the network for N crops."""

    uv: Tensor  # (N, 478, 2) px in the crop, pixel (0, 0) is the centre of the top-left pixel
    z: Tensor  # (N, 478) px, relative depth in the scale of uv; smaller is closer to the camera
    presence: Tensor  # (N,) in [0, 1], how sure the network is that the crop shows a face


class Bottleneck(nn.Module):
    """Reduce, 3x3 depthwise, expand, around a residual connection.

    A stride of 2 halves the grid: the reduction sees 2x2 cells, the shortcut takes their maximum
    and fills additional output channels with zeros.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        c_hidden = c_out // 2
        self.stride = stride
        self.extra_channels = c_out - c_in
        self.reduce = nn.Conv2d(c_in, c_hidden, kernel_size=stride, stride=stride)
        self.act_1 = nn.PReLU(c_hidden)
        self.depthwise = nn.Conv2d(c_hidden, c_hidden, 3, padding=1, groups=c_hidden, bias=False)
        self.expand = nn.Conv2d(c_hidden, c_out, 1)
        self.act_2 = nn.PReLU(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        shortcut = x
        if self.stride == 2:
            shortcut = F.max_pool2d(x, 2)
        if self.extra_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.extra_channels))
        x = self.expand(self.depthwise(self.act_1(self.reduce(x))))
        return self.act_2(x.add_(shortcut))


def _stage(c_in: int, c_out: int) -> nn.Sequential:
    """One halving of the grid and four bottlenecks on the new one."""
    rest = [Bottleneck(c_out, c_out) for _ in range(4)]
    return nn.Sequential(Bottleneck(c_in, c_out, stride=2), *rest)


class FaceMeshV2(nn.Module):
    """A 256 x 256 RGB crop -> 478 points and the presence of a face."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2)  # (N, 16, 128, 128)
        self.stem_act = nn.PReLU(16)
        self.backbone = nn.Sequential(
            *[Bottleneck(16, 16) for _ in range(4)],  # (N, 16, 128, 128)
            _stage(16, 32),  # (N, 32, 64, 64)
            _stage(32, 64),  # (N, 64, 32, 32)
            _stage(64, 128),  # (N, 128, 16, 16)
            _stage(128, 128),  # (N, 128, 8, 8)
            _stage(128, 128),  # (N, 128, 4, 4)
            _stage(128, 128),  # (N, 128, 2, 2)
        )
        self.presence_head = nn.Conv2d(128, 1, 2)  # (N, 1, 1, 1)
        self.points_head = nn.Conv2d(128, 3 * POINTS, 2)  # (N, 1434, 1, 1)

    def forward(self, crop: Tensor) -> FaceMeshPoints:
        """Measure the points of one face per crop.

        Args:
            crop: (N, 3, 256, 256) float RGB in [0, 1]; the face upright, filling about two thirds.

        Returns:
            Points in crop pixels; they mean nothing where presence is low.

        Raises:
            ValueError: the crop's shape is not as above.
        """
        if crop.ndim != 4 or crop.shape[1:] != (3, CROP_SIZE_PX, CROP_SIZE_PX):
            raise ValueError(
                f'expected crops of shape (N, 3, {CROP_SIZE_PX}, {CROP_SIZE_PX}), '
                f'got {tuple(crop.shape)}'
            )
        # TFLite's SAME for stride 2 pads only on the right and below.
        x = self.stem_act(self.stem(F.pad(crop, (0, 1, 0, 1))))
        x = self.backbone(x)
        xyz = self.points_head(x).view(-1, POINTS, 3)
        presence = self.presence_head(x).flatten().sigmoid()
        # The network measures from the crop's corner (see the card: x + x_mirrored is 256 on
        # average, not 255); pixel (0, 0)'s centre lies half a pixel inside it.
        return FaceMeshPoints(uv=xyz[..., :2] - 0.5, z=xyz[..., 2], presence=presence)


def face_mesh_v2(device: torch.device | str = 'cpu') -> FaceMeshV2:
    """Build the network with its weights, for inference only.

    Raises:
        WeightsError: As in `load_weights`.
    """
    return with_tensors(FaceMeshV2(), load_weights('face_mesh_v2'), device, 'face_mesh_v2')
