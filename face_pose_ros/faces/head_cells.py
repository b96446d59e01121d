# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the numbers of the head detector's network mean: every cell proposes a head with its pose.

The idea of img2pose (Albiero et al., CVPR 2021): a face is proposed as a 6-DoF pose, and its box
is the bounds of the projected face, not a second regression that could disagree with it.

What differs from the paper, and why:

- One stage without anchors. Every cell of four grids predicts whether it contains the centre of a
  head, and that head's pose (as FCOS, Tian et al., ICCV 2019, does with boxes). A head's grid
  follows from its size, so heads of all sizes are found in one pass.
- A cell's pose is relative to the *box camera*, which is turned towards the head's centre, and is
  converted to the full camera by that exact rotation (`faces.box_camera`), through any lens. The
  paper's rotation is a shear made orthogonal again; its focal length is a guess, so its metres are
  units.
- Instead of six numbers normalised by the data's mean and deviation: the offset of the head's
  centre from the cell, the logarithm of the head's apparent size, and two columns of the rotation,
  which are continuous (Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019).
- Each pose has standard deviations (`faces.head_uncertainty`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.faces.box_camera import box_rotation, pixels_per_radian
from face_pose_ros.geometry.camera import Camera

Array = NDArray[np.float64]

HEAD_SIZE_M = 0.24  # the mean head's height: the apparent size is in this unit
# Centre of the head in the head frame [m].
HEAD_CENTRE = (-0.07, 0.0, -0.01)
STRIDES = (8, 16, 32, 64)  # px
SIZE_MULTIPLE = 32  # of both sides of the image [px]
NUMBERS = 16  # score, u, v, log size, two columns of the rotation, six logarithms of sigma
# R_box_head of a frontal face.
FRONTAL_COLUMNS = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0)
SIGMA = 0.1  # standard deviation of a normalised error where the network's output is 0
MAX_LOG_SIGMA = 4.0


class Cells(NamedTuple):
    """Decoded output of M cells, each for the head whose centre is near it, in px of the image."""

    score: Array  # (M,) logit
    uv: Array  # (M, 2) px, centre of the head
    log_size: Array  # (M,) logarithm of the head's apparent size [px]
    columns: Array  # (M, 6) first two columns of R_box_head, before they are made orthonormal
    sigma: Array  # (M, 6) standard deviations of the normalised errors

    def of(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Cells:
        """Some of the cells, by a (M,) index or mask."""
        return Cells(*(field[index] for field in self))


def decode(outputs: Sequence[NDArray[np.float32]], least_score: float) -> Cells:
    """The cells with logits above `least_score`, of outputs (NUMBERS, H, W) of all strides."""
    x, centres, stride = _core.cells_above(outputs, STRIDES, least_score)
    return Cells(
        x[:, 0],
        centres + stride[:, None] * x[:, 1:3],
        x[:, 3] + np.log(stride),
        x[:, 4:10],
        SIGMA * np.exp(x[:, 10:].clip(-MAX_LOG_SIGMA, MAX_LOG_SIGMA)),
    )


def cell_centres(height: int, width: int, stride: int) -> Array:
    """(height * width, 2) px of the image, row by row."""
    rows, columns = np.divmod(np.arange(height * width), width)
    return (np.stack([columns, rows], -1) + 0.5) * stride - 0.5


def poses_of_cells(cells: Cells, camera: Camera) -> tuple[Array, NDArray[np.bool_]]:
    """Poses T_cam_head (M, 4, 4) of cells, and whether the lens has rays for them.

    Args:
        cells: (M, ...), in the pixels of the camera.
        camera: Of the image.
    """
    size_px = np.exp(cells.log_size)
    return _core.poses_of_cells(
        cells.uv, size_px, cells.columns, HEAD_CENTRE, HEAD_SIZE_M, camera.lens
    )


def cells_of_poses(T_cam_head: Array, camera: Camera) -> tuple[Cells, NDArray[np.bool_]]:
    """The inverse of `poses_of_cells`, with scores and sigmas of 0; whether the lens sees them."""
    centre = T_cam_head[:, :3, :3] @ np.array(HEAD_CENTRE) + T_cam_head[:, :3, 3]
    distance = np.linalg.norm(centre, axis=-1)
    rays = centre / distance[:, None]
    uv, valid, _ = camera.project(rays)
    size = pixels_per_radian(camera, rays) * HEAD_SIZE_M / distance
    columns = (box_rotation(rays).swapaxes(1, 2) @ T_cam_head[:, :3, :3])[..., :2]
    nothing = np.zeros((len(uv), 6))
    cells = Cells(nothing[:, 0], uv, np.log(size), columns.swapaxes(1, 2).reshape(-1, 6), nothing)
    return cells, valid


def head_boxes(cells: Cells) -> Array:
    """(M, 4) px: squares of the apparent size around heads, independent of the rotation."""
    half = 0.5 * np.exp(cells.log_size)[:, None]
    return np.concatenate([cells.uv - half, cells.uv + half], -1)
