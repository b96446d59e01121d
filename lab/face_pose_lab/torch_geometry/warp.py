# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pixel maps through lenses: exact on a coarse mesh of nodes, linear in between.

Over a few pixels a lens is straight to a hundredth of a pixel, and mapping one node in 64 pixels
costs nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NODE_SPACING_PX = 8


def cell_nodes(height: int, width: int) -> Tensor:
    """Middles of the cells that tile a picture, and of one more row of cells all around it.

    Args:
        height: A multiple of NODE_SPACING_PX [px].
        width: Likewise.

    Returns:
        (height / spacing + 2, width / spacing + 2, 2) uv [px], float64.
    """
    v, u = (
        (torch.arange(-1, side // NODE_SPACING_PX + 1) + 0.5).double() * NODE_SPACING_PX - 0.5
        for side in (height, width)
    )
    return torch.stack(torch.meshgrid(u, v, indexing='xy'), -1)


def interpolate_nodes(values: Tensor, samples: int = 1) -> Tensor:
    """Values at pixel centres from values at `cell_nodes`.

    Args:
        values: (N, rows, columns, C) at the nodes.
        samples: Samples per pixel and axis.

    Returns:
        (N, height * samples, width * samples, C).
    """
    margin = NODE_SPACING_PX * samples
    fine = F.interpolate(
        values.permute(0, 3, 1, 2), scale_factor=margin, mode='bilinear', align_corners=False
    )
    return fine[..., margin:-margin, margin:-margin].permute(0, 2, 3, 1)
