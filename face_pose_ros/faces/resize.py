# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Downscales images with an antialiasing filter, as torch and Pillow do; compiled.

Each output pixel is the mean of the input pixels under a triangle whose half-width is the scale
factor (at least 1 px), first along rows, then along columns, both rounded to bytes. cv2.resize has
no such filter: INTER_AREA's box lets more aliasing through, which changes the networks' outputs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core


class _Filter(NamedTuple):
    """Input pixels of each output pixel along one axis."""

    first: NDArray[np.int64]  # (n,)
    weights: NDArray[np.int32]  # (n, taps) fixed point, zero-padded
    precision: int  # bits behind the point


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) in another size, (height, width, 3)."""
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    narrow = _resized(_transposed(image), _filter(columns, width))
    return _resized(_transposed(narrow), _filter(rows, height))


def _transposed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Much faster than numpy's copy of the view.
    return np.asarray(cv2.transpose(image), np.uint8)


def _resized(image: NDArray[np.uint8], new_rows: _Filter) -> NDArray[np.uint8]:
    """An image (H, W, 3) with another number of rows."""
    rows, columns, _ = image.shape
    lines = np.ascontiguousarray(image).reshape(rows, 3 * columns)
    return _core.weighted_lines(lines, *new_rows).reshape(-1, columns, 3)


@lru_cache(maxsize=32)
def _filter(size: int, new_size: int) -> _Filter:
    """A triangle's weights; 15 bits of fixed point, as torch's vectorised kernel has them."""
    scale = size / new_size
    support = max(scale, 1.0)
    centre = scale * (np.arange(new_size) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), size)
    taps = int((last - first).max())
    place = first[:, None] + np.arange(taps)
    weights = np.maximum(1 - np.abs((place - centre[:, None] + 0.5) / support), 0)
    weights[place >= last[:, None]] = 0
    weights /= weights.sum(1, keepdims=True)
    precision, largest = 0, weights.max()
    while precision < 22 and int(0.5 + largest * (1 << (precision + 1))) < 1 << 15:
        precision += 1
    fixed = (0.5 + weights * (1 << precision)).astype(np.int32)
    return _Filter(first, fixed, precision)
