# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of the single-shot detector's first stage: score, pose, calibrated points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.torch_faces.single_shot import (
    CellPoses,
    cell_centres,
    cell_poses,
    cells_of_poses,
    stride_of_size,
)
from face_pose_lab.torch_geometry import so3
from face_pose_lab.training.scenes import SceneBatch
from face_pose_lab.training.view_angle import yaw_deg
from face_pose_ros.faces.single_shot import HEAD_CENTRE, HEAD_SIZE_M, STRIDES

# Within this factor the neighbouring grid may propose the head too.
_SHARED = 1.3
_MIN_SIGMA = 0.5  # cells, sigma of the score's Gaussian around a centre
_SIGMA_OF_SIZE = 0.12
_REACH = 1.0  # cells: distance from the centre up to which the pose is trained


@dataclass(frozen=True)
class SingleShotLossOptions:
    """Weights of the terms, and which heads are to be found."""

    score: float = 1.0
    pose: float = 1.0  # rotation, position, size
    points: float = 1.0  # calibrated points, as in img2pose
    # Less visible heads, or with their centre outside, are neither face nor background.
    min_visible: float = 0.3
    min_size_px: float = 16.0  # the same for smaller heads
    max_size_px: float = 160.0  # and larger ones, which are found in a smaller image
    max_yaw_deg: float = 110.0  # and heads beyond this yaw


@dataclass(frozen=True)
class Targets:
    """Targets of M cells for each of B images."""

    score: Tensor  # (B, M) in [0, 1]; 1 at the cell next to the middle of a head
    ignored: Tensor  # (B, M) bool, of the score
    head: Tensor  # (B, M) int64, whose pose, -1: nobody's
    cells: CellPoses  # (J, ...) of the heads
    distance: Tensor  # (J,) m, of the heads' middles


def targets_of_heads(
    batch: SceneBatch, sizes: Sequence[tuple[int, int]], options: SingleShotLossOptions
) -> Targets:
    """Targets of every cell.

    Args:
        batch: B pictures, J heads.
        sizes: Height and width of each grid [cells].
        options: Which heads are to be found.
    """
    T = batch.T_cam_head
    cells, visible = cells_of_poses(T[:, None], batch.cameras_of_heads())
    cells = CellPoses(*(field[:, 0] for field in cells))
    size_px = cells.log_size.exp()
    height, width = batch.pictures.shape[-2:]
    wanted = visible[:, 0] & is_wanted(T, cells, batch.visible_fraction, (height, width), options)
    answers = stride_of_size(size_px)
    near = [stride_of_size(size_px * s) for s in (_SHARED, 1 / _SHARED)]
    score, ignored, head = [], [], []
    for level, (size, stride) in enumerate(zip(sizes, STRIDES, strict=True)):
        centres = cell_centres(*size, stride).to(cells.uv)
        offset = (centres - cells.uv[:, None]) / stride  # (J, M, 2)
        sigma = (_SIGMA_OF_SIZE * size_px / stride).clamp_min(_MIN_SIGMA)
        distance = offset.norm(dim=-1)
        gaussian = (-0.5 * (distance / sigma[:, None]).square()).exp()
        here = wanted & (answers == level)
        nearest = distance == distance.amin(-1, keepdim=True)
        own = torch.where(nearest, 1.0, gaussian) * here[:, None]
        also = ~here & ((near[0] == level) | (near[1] == level))
        hidden = (gaussian > 0.1) & (also | ~wanted)[:, None]
        reached = (offset.abs().amax(-1) <= _REACH) & here[:, None]
        score.append(_per_picture(own, batch.image_index, len(batch.pictures)))
        ignored.append(_per_picture(hidden.to(own), batch.image_index, len(batch.pictures)) > 0)
        head.append(_owner(torch.where(reached, gaussian, 0.0), batch))
    return Targets(
        torch.cat(score, 1),
        torch.cat(ignored, 1),
        torch.cat(head, 1),
        cells,
        (T[:, :3, :3] @ T.new_tensor(HEAD_CENTRE) + T[:, :3, 3]).norm(dim=-1),
    )


def is_wanted(
    T_cam_head: Tensor,
    cells: CellPoses,
    visible_fraction: Tensor,
    size: tuple[int, int],
    options: SingleShotLossOptions,
) -> Tensor:
    """(J,) whether a head should be found in images of a size (height, width)."""
    high = cells.uv.new_tensor([size[1], size[0]]) - 0.5
    inside = ((cells.uv >= -0.5) & (cells.uv < high)).all(-1)
    enough = (visible_fraction >= options.min_visible) & inside
    size_px = cells.log_size.exp()
    enough &= (size_px >= options.min_size_px) & (size_px <= options.max_size_px)
    return enough & (yaw_deg(T_cam_head).abs() <= options.max_yaw_deg)


def _per_picture(values: Tensor, image_index: Tensor, pictures: int) -> Tensor:
    """(B, M) the largest of the values (J, M) of a picture's heads, 0 without heads."""
    index = image_index[:, None].expand_as(values)
    return values.new_zeros(pictures, values.shape[1]).scatter_reduce(0, index, values, 'amax')


def _owner(claim: Tensor, batch: SceneBatch) -> Tensor:
    """(B, M) the head (of J) with the largest positive claim (J, M) in its picture, or -1."""
    best = _per_picture(claim, batch.image_index, len(batch.pictures))
    owner = torch.full_like(best, -1, dtype=torch.int64)
    for j, picture in enumerate(batch.image_index.tolist()):
        mine = (claim[j] > 0) & (claim[j] == best[picture])
        owner[picture] = torch.where(mine, j, owner[picture])
    return owner


def single_shot_losses(
    outputs: Sequence[Tensor],
    batch: SceneBatch,
    xyz_head: Tensor,
    options: SingleShotLossOptions,
) -> dict[str, Tensor]:
    """The terms, weighted, to be summed.

    Args:
        outputs: Of the network, one for each stride.
        batch: The pictures they are of.
        xyz_head: (P, 3) m, calibrated points of the mean face.
        options: Weights, and which heads are to be found.
    """
    cells = cell_poses(outputs)
    sizes = [(o.shape[2], o.shape[3]) for o in outputs]
    targets = targets_of_heads(batch, sizes, options)
    heads = (targets.score == 1).sum().clamp_min(1)
    losses = {'score': options.score * _focal(cells.score, targets).sum() / heads}
    picture, cell = (targets.head >= 0).nonzero(as_tuple=True)
    head = targets.head[picture, cell]
    said = CellPoses(*(field[picture, cell] for field in cells))
    truth = CellPoses(*(field[head].float() for field in targets.cells))
    stride = torch.cat(
        [said.uv.new_full((h * w,), s) for (h, w), s in zip(sizes, STRIDES, strict=True)]
    )
    count = max(len(head), 1)
    R, R_true = so3.from_columns(said.columns), so3.from_columns(truth.columns)
    terms = pose_terms(said, truth, R, R_true, unit_px=stride[cell][:, None])
    losses['pose'] = options.pose * terms.sum() / count
    distance = targets.distance[head].float()
    points = calibrated_points(said, R, distance, xyz_head.to(R))
    points_true = calibrated_points(truth, R_true, distance, xyz_head.to(R))
    error = (points - points_true).abs().sum(-1).mean(-1) / truth.log_size.exp()
    losses['points'] = options.points * 5 * error.sum() / count
    return losses


def _focal(logits: Tensor, targets: Targets) -> Tensor:
    """Focal loss with less penalty around the middle (Law and Deng 2018), (B, M)."""
    score = targets.score.to(logits)
    p = logits.sigmoid()
    positive = score == 1
    found = -F.logsigmoid(logits) * (1 - p).square()
    wrong = -F.logsigmoid(-logits) * p.square() * (1 - score) ** 4
    loss = torch.where(positive, found, wrong)
    return torch.where(targets.ignored & ~positive, 0.0, loss)


def pose_terms(
    said: CellPoses, truth: CellPoses, R: Tensor, R_true: Tensor, unit_px: Tensor | float
) -> Tensor:
    """(M,) sum of errors of position [unit_px], rotation (Frobenius) and size (logarithm)."""
    off = F.smooth_l1_loss(said.uv, truth.uv, reduction='none') / unit_px
    rotation = ((R - R_true).square().sum((-1, -2)) + 1e-4).sqrt()
    return off.sum(-1) + rotation + 2 * (said.log_size - truth.log_size).abs()


def calibrated_points(cells: CellPoses, R: Tensor, distance: Tensor, xyz_head: Tensor) -> Tensor:
    """(M, P, 2) px: the head's points (P, 3) in box cameras at distances (M,) [m]."""
    xyz = (xyz_head - xyz_head.new_tensor(HEAD_CENTRE)) @ R.mT
    depth = 1 + xyz[..., 2:] / distance[:, None, None]
    scale = (cells.log_size.exp() / HEAD_SIZE_M)[:, None, None]
    return cells.uv[:, None] + scale * xyz[..., :2] / depth
