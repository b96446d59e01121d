# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of the region network: score, pose, points, keypoints, uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.torch_faces.region_pose import (
    ReadRegions,
    read_keypoints,
    read_regions,
    region_cameras,
)
from face_pose_lab.torch_faces.single_shot import CellPoses, cells_of_poses
from face_pose_lab.torch_geometry import so3
from face_pose_lab.training.batches import CropBatch
from face_pose_lab.training.losses import mean_distance
from face_pose_lab.training.single_shot_losses import calibrated_points, pose_terms
from face_pose_lab.training.view_angle import yaw_deg
from face_pose_ros.faces.region_pose import REGION_PX
from face_pose_ros.faces.single_shot import HEAD_CENTRE


@dataclass(frozen=True)
class RegionLossOptions:
    """Weights of the terms."""

    score: float = 1.0  # cross entropy
    pose: float = 1.0  # rotation, position, size
    points: float = 1.0  # calibrated points, as in img2pose
    keypoints: float = 4.0  # distance over half the side, if the network has keypoints
    likelihood: float = 0.05  # of the errors; trains the stated standard deviations only
    # Beyond this yaw heads are neither face nor background; their poses count.
    max_yaw_deg: float = 110.0


def region_losses(
    numbers: Tensor, batch: CropBatch, xyz_head: Tensor, options: RegionLossOptions
) -> dict[str, Tensor]:
    """The terms, weighted, to be summed.

    Args:
        numbers: (B, 16 + 2 K) of the network.
        batch: The regions; where T_crop_head is NaN there is no head.
        xyz_head: (P, 3) m, calibrated points of the mean face.
        options: Weights, and which heads are faces.
    """
    said = read_regions(numbers)
    is_head = batch.T_crop_head.isfinite().all(-1).all(-1)
    T = batch.T_crop_head[is_head]
    cameras = region_cameras(batch.f[is_head], batch.c[is_head], REGION_PX)
    truth, _ = cells_of_poses(T[:, None], cameras)
    truth = CellPoses(*(field[:, 0].float() for field in truth))
    counted = ~is_head
    counted[is_head] = yaw_deg(T).abs() <= options.max_yaw_deg
    score = F.binary_cross_entropy_with_logits(
        said.cells.score[counted], is_head[counted].float(), reduction='sum'
    )
    losses = {'score': options.score * score / counted.sum().clamp_min(1)}
    heads = ReadRegions(CellPoses(*(f[is_head] for f in said.cells)), said.sigma[is_head])
    count = max(len(T), 1)
    R, R_true = so3.from_columns(heads.cells.columns), so3.from_columns(truth.columns)
    terms = pose_terms(heads.cells, truth, R, R_true, unit_px=REGION_PX / 8)
    losses['pose'] = options.pose * terms.sum() / count
    centre = T[:, :3, :3] @ T.new_tensor(HEAD_CENTRE) + T[:, :3, 3]
    distance = centre.norm(dim=-1).float()
    points = calibrated_points(heads.cells, R, distance, xyz_head.to(R))
    points_true = calibrated_points(truth, R_true, distance, xyz_head.to(R))
    error = (points - points_true).abs().sum(-1).mean(-1) / truth.log_size.exp()
    losses['points'] = options.points * 5 * error.sum() / count
    likelihood = negative_log_likelihood(heads, truth, R.detach(), R_true)
    losses['likelihood'] = options.likelihood * likelihood.sum() / count
    keypoints = read_keypoints(numbers)
    if keypoints.shape[1]:
        distance = mean_distance(keypoints, batch.uv, REGION_PX)
        losses['keypoints'] = options.keypoints * distance
    return losses


def negative_log_likelihood(
    said: ReadRegions, truth: CellPoses, R: Tensor, R_true: Tensor
) -> Tensor:
    """(N,) of the normalised errors under the stated sigma; its gradient is that of sigma alone.

    The errors are approximately those of `faces.head_uncertainty`: the box cameras of both centres
    differ by a small rotation.
    """
    across = (truth.uv - said.cells.uv) / truth.log_size.exp()[:, None]
    along = (said.cells.log_size - truth.log_size)[:, None]
    error = torch.cat([across, along, so3.log(R_true @ R.mT)], -1).detach()
    return (0.5 * (error / said.sigma).square() + said.sigma.log()).sum(-1)
