# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Output of a regressor (`face_pose_lab.hourglass.regressor`), as differentiable tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_keypoints.heatmaps import CropKeypoints

_NUMBERS = 5  # per keypoint: u, v, and three of the covariance
_UNIT = 1 / 32  # of the crop's side: standard deviation of a keypoint where the network says 0
_BLUR = 1 / 16  # of the crop's side: width of the targets in heatmaps of 16 cells
_MAX_LOG = 3.0  # of a standard deviation over the unit, up or down
# First two columns of the rotation of a frontal head.
_FRONTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0)


class RegressedHead(NamedTuple):
    """Output of the regressor for N crops."""

    keypoints: CropKeypoints  # (N, K), also outside of the crop
    R_crop_head: Tensor  # (N, 3, 3), of the crop's camera


def read_regression(numbers: Tensor, size_px: int) -> RegressedHead:
    """Decode the output (N, 5 K + 6) for crops of size_px."""
    points = numbers[:, :-6].unflatten(1, (-1, _NUMBERS))
    middle = 0.5 * (size_px - 1)
    uv = middle + 0.5 * size_px * points[..., :2]
    a, d = points[..., 2:4].clamp(-_MAX_LOG, _MAX_LOG).exp().unbind(-1)
    # The covariance's Cholesky factor: any covariance, and no other matrix.
    L = torch.stack([a, torch.zeros_like(a), points[..., 4] * d, d], -1).unflatten(-1, (2, 2))
    cov_uv = (_UNIT * size_px) ** 2 * L @ L.mT
    columns = numbers[:, -6:] + numbers.new_tensor(_FRONTAL)
    return RegressedHead(
        CropKeypoints(uv, cov_uv, _confidence(cov_uv, size_px)), so3.from_columns(columns)
    )


def _confidence(cov_uv: Tensor, size_px: int) -> Tensor:
    """(...) the peak of the heatmap that would tell of covariances (..., 2, 2) px^2."""
    blur = (_BLUR * size_px) ** 2
    a, b, d = cov_uv[..., 0, 0], cov_uv[..., 0, 1], cov_uv[..., 1, 1]
    return blur * ((a + blur) * (d + blur) - b * b).rsqrt()
