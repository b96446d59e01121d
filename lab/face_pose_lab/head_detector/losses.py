# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of the head detector: score, pose, calibrated points, uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.head_detector.targets import Targets
from face_pose_lab.torch_geometry import so3
from face_pose_ros.faces.head_cells import (
    HEAD_CENTRE,
    HEAD_SIZE_M,
    MAX_LOG_SIGMA,
    SIGMA,
    STRIDES,
    cell_centres,
)

# Distance of the camera at which the points of a head are compared.
_DISTANCE_M = 1.0


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms."""

    score: float = 1.0
    pose: float = 1.0  # rotation, position, size
    points: float = 5.0  # calibrated points, img2pose (Albiero et al., CVPR 2021), eq. 4
    likelihood: float = 0.05  # of the errors; trains the standard deviations alone


class Cells(NamedTuple):
    """Decoded output, (..., M) for the cells of all strides."""

    score: Tensor  # logits
    uv: Tensor  # (..., 2) px
    log_size: Tensor
    columns: Tensor  # (..., 6)
    sigma: Tensor  # (..., 6) of the normalised errors, see `faces.head_uncertainty`
    stride: Tensor  # (M,) px


def decoded(outputs: Sequence[Tensor]) -> Cells:
    """Cells of the network's outputs (B, NUMBERS, H, W), one for each stride."""
    values, centres, strides = [], [], []
    for output, step in zip(outputs, STRIDES, strict=True):
        height, width = output.shape[-2:]
        values.append(output.float().flatten(2).mT)
        centres.append(torch.from_numpy(cell_centres(height, width, step)).float())
        strides.append(torch.full((height * width,), float(step)))
    x, stride = torch.cat(values, 1), torch.cat(strides)
    return Cells(
        x[..., 0],
        torch.cat(centres) + stride[:, None] * x[..., 1:3],
        x[..., 3] + stride.log(),
        x[..., 4:10],
        SIGMA * x[..., 10:16].clamp(-MAX_LOG_SIGMA, MAX_LOG_SIGMA).exp(),
        stride,
    )


def losses(
    outputs: Sequence[Tensor], targets: Targets, xyz_head: Tensor, options: LossOptions
) -> dict[str, Tensor]:
    """The terms, weighted, to be summed.

    Args:
        outputs: Of the network.
        targets: Of the same images.
        xyz_head: (P, 3) m, points of the mean face.
        options: Weights.
    """
    cells = decoded(outputs)
    heads = (targets.score == 1).sum().clamp_min(1)
    terms = {'score': options.score * focal(cells.score, targets).sum() / heads}
    at = targets.image, targets.cell
    count = max(len(targets.cell), 1)
    uv, log_size, sigma = cells.uv[at], cells.log_size[at], cells.sigma[at]
    stride = cells.stride[targets.cell]
    R, R_true = so3.from_columns(cells.columns[at]), targets.R_box_head
    posed = targets.posed.float()
    off = F.smooth_l1_loss(uv, targets.uv, reduction='none').sum(-1) / stride
    off = off * torch.where(targets.posed, 1.0, 0.3)
    # The distance of rotations has no gradient half a turn away, that of the columns has.
    columns = cells.columns[at] - R_true[..., :2].mT.flatten(1)
    rotation = ((R - R_true).square().sum((-1, -2)) + 1e-4).sqrt() + 0.5 * columns.square().sum(-1)
    size = 2 * (log_size - targets.log_size).abs()
    terms['pose'] = options.pose * (off + posed * (rotation + size)).sum() / count
    error = points_in_box(uv, log_size, R, xyz_head) - points_in_box(
        targets.uv, targets.log_size, R_true, xyz_head
    )
    error = error.abs().sum(-1).mean(-1) / targets.log_size.exp()
    terms['points'] = options.points * (posed * error).sum() / count
    e = normalised_errors(uv, log_size, R, targets).detach()
    likelihood = (0.5 * (e / sigma).square().clamp_max(50) + sigma.log()).sum(-1)
    terms['likelihood'] = options.likelihood * (posed * likelihood).sum() / count
    return terms


def normalised_errors(uv: Tensor, log_size: Tensor, R: Tensor, targets: Targets) -> Tensor:
    """(P, 6) as `faces.head_uncertainty` defines them, but for a small turn of the box camera."""
    across = (targets.uv - uv) / targets.log_size.exp()[:, None]
    along = (log_size - targets.log_size)[:, None]
    e = torch.cat([across, along, so3.log(targets.R_box_head @ R.mT)], -1)
    # In the camera that is rolled until the head's estimate is upright.
    down = F.normalize(-R[:, :2, 2], dim=-1)
    upright = torch.stack([torch.stack([down[:, 1], -down[:, 0]], -1), down], 1)
    e = e.unflatten(-1, (2, 3))
    xy = e[..., :2] @ upright.mT
    return torch.cat([xy, e[..., 2:]], -1).flatten(1)


def focal(logits: Tensor, targets: Targets) -> Tensor:
    """Focal loss with less penalty around a centre (Law and Deng, ECCV 2018, eq. 1), (B, M)."""
    p = logits.sigmoid()
    positive = targets.score == 1
    found = -F.logsigmoid(logits) * (1 - p).square()
    wrong = -F.logsigmoid(-logits) * p.square() * (1 - targets.score) ** 4
    loss = torch.where(positive, found, wrong)
    return torch.where(targets.ignored & ~positive, 0.0, loss)


def points_in_box(uv: Tensor, log_size: Tensor, R: Tensor, xyz_head: Tensor) -> Tensor:
    """(M, P, 2) px: points of heads (P, 3) as a camera turned to each head sees them."""
    xyz = (xyz_head - xyz_head.new_tensor(HEAD_CENTRE)) @ R.mT
    depth = 1 + xyz[..., 2:] / _DISTANCE_M
    scale = (log_size.exp() / HEAD_SIZE_M)[:, None, None]
    return uv[:, None] + scale * xyz[..., :2] / depth
