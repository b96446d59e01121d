"""Pixel maps through lenses: exact on a coarse mesh of nodes, linear in between.

Over a few pixels a lens is straight to a hundredth of a pixel, and mapping one node in 64 pixels
costs nothing.
"""

import math

import torch
from torch import Tensor

NODE_SPACING_PX = 8


def edge_nodes(height: int, width: int) -> Tensor:
    """Nodes over a picture, from the outer edge of its first pixels to that of its last ones.

    Args:
        height: A multiple of NODE_SPACING_PX [px].
        width: Likewise.

    Returns:
        (height / spacing + 1, width / spacing + 1, 2) uv [px], float64.
    """
    v, u = (
        torch.linspace(-0.5, side - 0.5, math.ceil(side / NODE_SPACING_PX) + 1).double()
        for side in (height, width)
    )
    return torch.stack(torch.meshgrid(u, v, indexing='xy'), -1)


def interpolate_nodes(values: Tensor, height: int, width: int) -> Tensor:
    """Values at pixel centres from values at `edge_nodes`.

    Args:
        values: (N, rows, columns, C) at the nodes.
        height: Rows of pixels wanted between the first and the last node.
        width: Columns of pixels wanted.

    Returns:
        (N, height, width, C).
    """
    return _interpolate(_interpolate(values, height, dim=1), width, dim=2)


def _interpolate(values: Tensor, size: int, dim: int) -> Tensor:
    cells = values.shape[dim] - 1
    position = (torch.arange(size, device=values.device, dtype=values.dtype) + 0.5) * cells / size
    low = position.floor().long()
    shape = [1] * values.ndim
    shape[dim] = size
    fraction = (position - low).view(shape)
    return torch.lerp(values.index_select(dim, low), values.index_select(dim, low + 1), fraction)
