# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of an hourglass on rendered heads, by yaw relative to the line of sight."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from face_pose_lab.hourglass.network import StackedHourglass, regressing
from face_pose_lab.hourglass.regressor import mirror_averaged
from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_keypoints.heatmaps import CropKeypoints, decode_heatmaps
from face_pose_lab.torch_keypoints.hourglass import positive_heatmaps
from face_pose_lab.torch_keypoints.regression import read_regression
from face_pose_lab.training.augment import resized_crops
from face_pose_lab.training.batches import CropBatch
from face_pose_lab.training.config import TrainConfig
from face_pose_lab.training.losses import (
    NORMALISED_CAMERA,
    inside_crop,
    normalised_keypoints,
)
from face_pose_lab.training.view_angle import yaw_deg
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.fit import fit_pose

YAW_BINS_DEG = ((0, 30), (30, 60), (60, 90), (90, 135), (135, 180))
_FIT = PoseOptions(independent_keypoints=6.0)


def predict_crops(
    network: StackedHourglass, pictures: Tensor, mirror: Tensor, amp: bool
) -> CropKeypoints:
    """Keypoints (B, K) of crops, as the packaged network has them or read from heatmaps.

    Args:
        network: In evaluation mode.
        pictures: (B, 3, S, S) in [0, 1], on the network's device.
        mirror: (K,) which keypoint of a mirrored head is which.
        amp: Whether to compute in bfloat16 where it is safe.
    """
    options = network.options
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=amp):
        if options.regressor:
            said = mirror_averaged(regressing(network), pictures, mirror)
        else:
            said = network(pictures).heatmaps[:, -1]
    if options.regressor:
        return read_regression(said.float(), options.input_px).keypoints
    return decode_heatmaps(positive_heatmaps(said.float(), options), options.stride)


def evaluate_crops(
    network: StackedHourglass, source: Any, model: FaceModel, mirror: Tensor, config: TrainConfig
) -> dict[str, dict[str, float]]:
    """Errors of all pictures of a source, by bins of |yaw| and for all of them.

    Returns:
        For each bin: `heads`; `keypoints_percent`, the mean error of the keypoints inside the crop
        in percent of the head's size; `visible_percent`, of the visible ones alone;
        `keypoint_nees`, the mean squared error over the stated covariance, over 2;
        `rotation_deg`, mean angle between the fitted and the true rotation, and its median.
    """
    size_px = network.options.input_px
    batches = []
    with torch.no_grad():
        for first in range(0, len(source), 64):
            indices = np.arange(first, min(first + 64, len(source)))
            batch = resized_crops(source.batch(indices), mirror, size_px)
            points = predict_crops(
                network, batch.pictures.to(config.device) / 255, mirror, config.amp
            )
            points = CropKeypoints(*(values.cpu() for values in points))
            batches.append(_errors(points, batch, model))
    every = {key: torch.cat([b[key] for b in batches]) for key in batches[0]}
    yaw = every.pop('yaw').abs()
    bins = {f'{a}-{b}': (yaw >= a) & (yaw < b + (b == 180)) for a, b in YAW_BINS_DEG}
    bins['all'] = torch.ones_like(yaw, dtype=torch.bool)
    return {name: _row({k: v[mask] for k, v in every.items()}) for name, mask in bins.items()}


def _errors(points: CropKeypoints, batch: CropBatch, model: FaceModel) -> dict[str, Tensor]:
    size_px = batch.pictures.shape[-1]
    error = points.uv - batch.uv
    percent = 100 * error.norm(dim=-1) / batch.head_size_px[:, None]
    nees = 0.5 * (
        error[..., None, :] @ torch.linalg.solve(points.cov_uv, error[..., None])
    ).flatten(1)
    inside = inside_crop(batch.uv, size_px)
    measured = normalised_keypoints(points, batch).runtime()
    poses = fit_pose(measured, model, NORMALISED_CAMERA, _FIT).poses
    T = batch.T_crop_head
    angle = so3.angle_between(
        torch.from_numpy(poses.T_cam_head)[:, :3, :3], T[:, :3, :3]
    ).rad2deg()
    return {
        'yaw': yaw_deg(T),
        'rotation': angle,
        'percent': torch.where(inside, percent, torch.nan),
        'visible': torch.where(inside & batch.visible, percent, torch.nan),
        'nees': torch.where(inside, nees, torch.nan),
    }


def _row(values: dict[str, Tensor]) -> dict[str, float]:
    return {
        'heads': float(len(values['rotation'])),
        'keypoints_percent': float(values['percent'].nanmean()),
        'visible_percent': float(values['visible'].nanmean()),
        'keypoint_nees': float(values['nees'].nanmean()),
        'rotation_deg': float(values['rotation'].mean()),
        'rotation_median_deg': float(values['rotation'].median())
        if len(values['rotation'])
        else float('nan'),
    }
