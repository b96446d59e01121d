"""Heads of all sizes: the single-shot network on a picture and on smaller ones of it.

The network is trained for heads of 16 to 160 px. Large ones are found in a picture a third as
large, which costs a ninth: what a few pixels tell about a head's pose, many tell little better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.torch_faces.single_shot import SIZE_MULTIPLE, CellPoses, cell_poses

LARGEST_HEAD_PX = 150.0
LEVEL_RATIO = 3.0

# (N, 3, H, W) float RGB in [0, 1] -> per stride (N, 10, H / stride, W / stride)
Network = Callable[[Tensor], Sequence[Tensor]]


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes (height, width) [px] in which a picture is looked at, finest first."""
    sizes, scale = [(height, width)], 1.0
    # A head can fill the picture's shorter side.
    while min(height, width) * scale > LARGEST_HEAD_PX:
        scale /= LEVEL_RATIO
        sizes.append((max(1, round(height * scale)), max(1, round(width * scale))))
    return sizes


def cells_of_picture(network: Network, pictures: Tensor) -> CellPoses:
    """What the cells of all levels and strides say, (N, M, ...), in the pictures' pixels.

    Args:
        network: `SingleShot`, or the same run by another engine.
        pictures: (N, 3, H, W) float RGB in [0, 1], of any size.
    """
    height, width = pictures.shape[-2:]
    parts, picture = [], pictures
    for size in level_sizes(height, width):
        if size != tuple(picture.shape[-2:]):
            picture = F.interpolate(picture, size, mode='bilinear', antialias=True)
        cells = cell_poses(network(padded(picture)))
        scale = cells.uv.new_tensor([width / size[1], height / size[0]])
        parts.append(
            cells._replace(
                uv=(cells.uv + 0.5) * scale - 0.5,
                log_size=cells.log_size + 0.5 * scale.log().sum(),
            )
        )
    return CellPoses(*(torch.cat(field, 1) for field in zip(*parts, strict=True)))


def padded(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, H, W), black up to multiples of 32 px."""
    height, width = pictures.shape[-2:]
    borders = (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)
    return F.pad(pictures, borders).contiguous(memory_format=torch.channels_last)
