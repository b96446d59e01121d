# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decodes the keypoint network's output (`keypoints.network_output`), differentiably."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.keypoints.network_output import (
    FURTHER,
    INPUT_PX,
    KEYPOINTS,
    MAX_LOG,
    NUMBERS,
    STEP,
    UNIT,
)


class NetworkOutput(NamedTuple):
    """Decoded output of the network for N crops."""

    uv: Tensor  # (N, K, 2) px of the crop, also outside of it
    cholesky: Tensor  # (N, K, 2, 2) px, lower triangles L; the covariance is L L^T
    presence_logit: Tensor  # (N,)
    columns: Tensor  # (N, 6): the first two columns of R_crop_head, not yet orthogonal


def decode(numbers: Tensor) -> NetworkOutput:
    """Decode the numbers (N, 5 K + 7) of crops."""
    points = numbers[:, :-FURTHER].unflatten(1, (KEYPOINTS, NUMBERS))
    uv = 0.5 * (INPUT_PX - 1) + STEP * INPUT_PX * points[..., :2]
    a, d = points[..., 2:4].clamp(-MAX_LOG, MAX_LOG).exp().unbind(-1)
    # Every such factor gives a valid covariance, and every covariance has exactly one.
    L = torch.stack([a, torch.zeros_like(a), points[..., 4] * d, d], -1).unflatten(-1, (2, 2))
    return NetworkOutput(uv, UNIT * INPUT_PX * L, numbers[:, -FURTHER], numbers[:, -6:])


def unmirrored(numbers: Tensor, mirror: Tensor) -> Tensor:
    """The numbers (N, 5 K + 7) of crops, from those of their mirror images.

    Args:
        numbers: Output for the mirrored crops.
        mirror: (K,) index of the mirror partner of each keypoint.
    """
    points = numbers[:, :-FURTHER].unflatten(1, (KEYPOINTS, NUMBERS))[:, mirror]
    points = torch.cat([-points[..., :1], points[..., 1:4], -points[..., 4:]], -1)
    # The camera's x and the head's y change sign, so the second column changes all but its x.
    presence, x, same, other = numbers[:, -FURTHER:].split([1, 1, 3, 2], 1)
    return torch.cat([points.flatten(1), presence, -x, same, -other], 1)
