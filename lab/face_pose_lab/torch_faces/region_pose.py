# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decodes the region network in torch: see `face_pose_ros.faces.region_pose`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from face_pose_lab.torch_faces.single_shot import CellPoses
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_ros.faces.region_pose import (
    FRONTAL_COLUMNS,
    MAX_LOG_SIGMA,
    NUMBERS,
    REGION_PX,
    REGION_SCALE,
    SIGMA,
)


class ReadRegions(NamedTuple):
    """Decoded output of N regions."""

    cells: CellPoses  # (N, ...) in the regions' pixels
    sigma: Tensor  # (N, 6) standard deviations of the normalised errors


def read_regions(numbers: Tensor) -> ReadRegions:
    """Decode the network's output (N, 16 or more).

    The first 16 are: logit; the middle's u, v from that of the region, in halves of its side;
    logarithm of the size over REGION_PX / REGION_SCALE; two columns of the rotation less those of
    a frontal head; logarithms of sigma over 0.1.
    """
    numbers = numbers[..., :NUMBERS]
    score, uv, log_size, columns, log_sigma = numbers.split([1, 2, 1, 6, 6], -1)
    uv = 0.5 * (REGION_PX - 1) + 0.5 * REGION_PX * uv
    cells = CellPoses(
        score[:, 0],
        uv,
        log_size[:, 0] + math.log(REGION_PX / REGION_SCALE),
        columns + columns.new_tensor(FRONTAL_COLUMNS),
    )
    return ReadRegions(cells, SIGMA * log_sigma.clamp(-MAX_LOG_SIGMA, MAX_LOG_SIGMA).exp())


def read_keypoints(numbers: Tensor) -> Tensor:
    """Pixels (N, K, 2) of the keypoints in the regions, of numbers (N, 16 + 2 K)."""
    places = numbers[:, NUMBERS:].unflatten(1, (-1, 2))
    return 0.5 * (REGION_PX - 1) + 0.5 * REGION_PX * places


_PINHOLE = Camera.from_K([1, 0, 0, 0, 1, 0, 0, 0, 1], REGION_PX, REGION_PX)


def region_cameras(focal_px: Tensor, centre_px: Tensor, size_px: int) -> Camera:
    """Pinhole cameras (N,) of regions, of their focal lengths (N,) and principal points (N, 2)."""
    count = len(focal_px)
    return replace(
        _PINHOLE,
        f=focal_px[:, None].expand(-1, 2),
        c=centre_px,
        dist=_PINHOLE.dist.to(focal_px).expand(count, -1),
        range_max=_PINHOLE.range_max.to(focal_px).expand(count),
        width=size_px,
        height=size_px,
    )
