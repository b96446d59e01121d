# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every cell of the network should answer for the heads of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.head_detector.heads import Heads
from face_pose_ros.faces.head_cells import STRIDES, cell_centres

# Apparent sizes [px] up to which a stride answers: 2 to 6 of its cells. The last has the rest.
SIZE_LIMITS_PX = (48.0, 112.0, 240.0)
# Within this factor of a limit the neighbouring grid may propose the head too.
_SHARED = 1.3
_MIN_SIGMA = 0.5  # cells: standard deviation of the score's Gaussian around a centre
_SIGMA_OF_SIZE = 0.12
_REACH = 1.0  # cells: distance from the centre up to which a cell's pose is trained


@dataclass(frozen=True, eq=False)
class Targets:
    """Of the M cells of B images together; P pairs of a cell and the head that it measures."""

    score: Tensor  # (B, M) in [0, 1]; 1 in the cell next to a centre
    ignored: Tensor  # (B, M) bool: neither head nor background
    image: Tensor  # (P,) int64
    cell: Tensor  # (P,) int64
    uv: Tensor  # (P, 2) px
    log_size: Tensor  # (P,)
    R_box_head: Tensor  # (P, 3, 3)
    posed: Tensor  # (P,) bool: whether rotation and size are labels


@dataclass(frozen=True, eq=False)
class ImageTargets:
    """`Targets` of one image in numpy, without `image`."""

    score: NDArray[np.float32]
    ignored: NDArray[np.bool_]
    cell: NDArray[np.int64]
    uv: NDArray[np.float64]
    log_size: NDArray[np.float64]
    R_box_head: NDArray[np.float64]
    posed: NDArray[np.bool_]


def targets_of_image(heads: Heads, height: int, width: int) -> ImageTargets:
    """Targets of the cells of all strides, in their order."""
    size = np.exp(heads.log_size)
    level_of = np.searchsorted(SIZE_LIMITS_PX, size)
    near = [np.searchsorted(SIZE_LIMITS_PX, size * s) for s in (_SHARED, 1 / _SHARED)]
    scores, ignored, owners = [], [], []
    for level, stride in enumerate(STRIDES):
        centres = cell_centres(height // stride, width // stride, stride)
        offset = (centres - heads.uv[:, None]) / stride  # (J, M, 2)
        distance = np.linalg.norm(offset, axis=-1)
        sigma = np.maximum(_SIGMA_OF_SIZE * size / stride, _MIN_SIGMA)
        bump = np.exp(-0.5 * (distance / sigma[:, None]) ** 2)
        here = heads.wanted & (level_of == level)
        nearest = distance == distance.min(1, keepdims=True)
        score = np.where(nearest, 1.0, bump) * here[:, None]
        also = ~here & ((near[0] == level) | (near[1] == level))
        unclear = (bump > 0.1) & (also | ~heads.wanted)[:, None]
        claim = np.where((np.abs(offset).max(-1) <= _REACH) & here[:, None], bump, 0.0)
        scores.append(score.max(0, initial=0.0))
        ignored.append(unclear.any(0))
        owners.append(
            np.where(claim.max(0, initial=0.0) > 0, claim.argmax(0), -1)
            if len(heads)
            else np.full(len(centres), -1)
        )
    owner = np.concatenate(owners)
    cell = np.flatnonzero(owner >= 0)
    head = owner[cell]
    return ImageTargets(
        np.concatenate(scores).astype(np.float32),
        np.concatenate(ignored),
        cell,
        heads.uv[head],
        heads.log_size[head],
        heads.R_box_head[head],
        heads.posed[head],
    )


def joined(images: Sequence[ImageTargets]) -> Targets:
    """The targets of a batch."""
    image = np.concatenate([np.full(len(t.cell), i) for i, t in enumerate(images)])

    def tensor(name: str) -> Tensor:
        values = [getattr(t, name) for t in images]
        whole = np.stack(values) if name in ('score', 'ignored') else np.concatenate(values)
        return torch.from_numpy(whole.astype(np.float32) if whole.dtype == float else whole)

    parts = {f.name: tensor(f.name) for f in fields(ImageTargets)}
    return Targets(image=torch.from_numpy(image), **parts)
