# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decodes the output of BlazeFace full range; the network is in `networks.blazeface`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRIDE = 4  # input px from one proposal cell to the next
SIZE_MULTIPLE = 32  # the coarsest grid of the encoder

Numbers = NDArray[np.float32]


def decode_proposals(
    regressions: Numbers, cells: NDArray[np.integer], grid_width: int
) -> tuple[Numbers, Numbers]:
    """Turn raw regressions into boxes and points in input pixels.

    The network measures from the image's top-left corner in units of its width: cell (0, 0) has
    its centre at 2 px from the corner. Pixel (0, 0)'s centre lies half a pixel inside the corner,
    hence the 0.5.

    Args:
        regressions: (..., 16) raw network output of the cells.
        cells: (...,) index of each cell in the row-major grid.
        grid_width: Cells per row: input width / 4.

    Returns:
        boxes_xyxy: (..., 4) px.
        points_uv: (..., 6, 2) px: right eye, left eye, nose tip, mouth centre, right ear, left
            ear; right and left are the person's own.
    """
    row, column = np.divmod(cells, grid_width)
    centre_uv = (np.stack([column, row], -1).astype(regressions.dtype) + 0.5) * STRIDE - 0.5
    box_centre = regressions[..., 0:2] + centre_uv
    half_size = regressions[..., 2:4] / 2
    boxes_xyxy = np.concatenate([box_centre - half_size, box_centre + half_size], -1)
    points_uv = regressions[..., 4:].reshape(*regressions.shape[:-1], 6, 2)
    return boxes_xyxy, points_uv + centre_uv[..., None, :]
