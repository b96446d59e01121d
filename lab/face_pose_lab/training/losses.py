# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of the hourglass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from face_pose_lab.hourglass.network import HourglassOptions, HourglassOutput
from face_pose_lab.torch_keypoints.heatmaps import (
    TARGET_SIGMA,
    CropKeypoints,
    decode_heatmaps,
    render_heatmaps,
)
from face_pose_lab.torch_keypoints.hourglass import positive_heatmaps
from face_pose_lab.torch_keypoints.regression import RegressedHead, read_regression
from face_pose_lab.torch_types import Keypoints
from face_pose_lab.training.batches import CropBatch
from face_pose_lab.training.through_solver import rotation_loss
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel

# Mahalanobis distance from which a keypoint's error counts linearly: what the network cannot see
# must not outweigh what it can.
_ROBUST = 3.0
_MIN_CONFIDENCE = 0.1


@dataclass(frozen=True)
class HourglassLossOptions:
    """Weights of the terms."""

    heatmap: float = 1.0  # squared error, or cross entropy where the heatmaps are distributions
    # Of the regressor: distance of the keypoints over half the side, their likelihood, and the
    # rotation's Frobenius distance.
    distance: float = 8.0
    regressed_likelihood: float = 0.25
    rotation: float = 1.0
    likelihood: float = 0.0  # of the keypoints under what is decoded from the last heatmaps
    # Of the rotation after the solver, training through the optimiser: from regressed keypoints if
    # there are any, else from decoded ones.
    pose: float = 0.0
    decode_from_step: int = 0  # before, the heatmaps have no peaks to decode for these two
    pose_heads: int = 16  # of each micro-batch


def hourglass_losses(
    output: HourglassOutput,
    batch: CropBatch,
    network: HourglassOptions,
    options: HourglassLossOptions,
    model: FaceModel,
    step: int,
) -> dict[str, Tensor]:
    """The terms, each a mean over the keypoints of a micro-batch.

    Args:
        output: What the network says of the crops.
        batch: The crops.
        network: Its sizes.
        options: Weights of the terms.
        model: The heads' shape, for the pose.
        step: Of the training.

    Returns:
        By name, weighted, to be summed.
    """
    maps = output.heatmaps.float()
    side, stride = network.heatmap_px, network.stride
    weight = inside_crop(batch.uv, network.input_px).float()
    uv = batch.uv.nan_to_num(-1e3)  # standard sets do not know every keypoint
    target = render_heatmaps(uv, side, side, stride)[:, None]  # (B, 1, K, H, W)
    total = weight.sum().clamp_min(1)
    if network.distribution:
        error = _cross_entropy(maps, target)
    else:
        error = (maps - target).square().sum((-2, -1)) / (math.pi * TARGET_SIGMA**2)
    losses = {'heatmap': options.heatmap * (weight[:, None] * error).mean(1).sum() / total}
    head = None
    if output.regression is not None:
        head = read_regression(output.regression, network.input_px)
        losses |= regression_losses(head, batch, network, options)
    if step >= options.decode_from_step and (options.likelihood or options.pose):
        points = decode_heatmaps(positive_heatmaps(maps[:, -1], network), stride)
        # A flat heatmap has a gradient that is as large as it is meaningless.
        peaked = weight * (points.confidence.detach() > _MIN_CONFIDENCE)
        if options.likelihood:
            error = negative_log_likelihood(points, uv, stride)
            mean = (peaked * error).sum() / peaked.sum().clamp_min(1)
            losses['likelihood'] = options.likelihood * mean
        if options.pose:
            heads = torch.arange(min(options.pose_heads, len(maps)), device=maps.device)
            final = points if head is None else head.keypoints
            losses['pose'] = options.pose * rotation_loss(
                normalised_keypoints(final, batch)[heads],
                batch.T_crop_head[heads],
                model,
                NORMALISED_CAMERA,
            )
    return losses


def regression_losses(
    head: RegressedHead, batch: CropBatch, network: HourglassOptions, options: HourglassLossOptions
) -> dict[str, Tensor]:
    """The terms of what is regressed; keypoints outside the crop count too."""
    known = batch.uv.isfinite().all(-1)
    total = known.sum().clamp_min(1)
    points = head.keypoints
    uv = torch.where(known[..., None], batch.uv, points.uv.detach())
    distance = mean_distance(points.uv, batch.uv, network.input_px)
    likelihood = negative_log_likelihood(points, uv, network.stride)
    R = batch.T_crop_head[:, :3, :3].to(head.R_crop_head)
    rotation = ((head.R_crop_head - R).square().sum((-2, -1)) + 1e-4).sqrt()
    return {
        'distance': options.distance * distance,
        'regressed_likelihood': options.regressed_likelihood * (known * likelihood).sum() / total,
        'rotation': options.rotation * rotation.mean(),
    }


def mean_distance(said: Tensor, uv: Tensor, size_px: int) -> Tensor:
    """Distances of keypoints (B, K, 2) from their labels, over half the side; NaN: no label."""
    known = uv.isfinite().all(-1)
    away = (said - torch.where(known[..., None], uv, said.detach())) / (0.5 * size_px)
    # Not differentiable where it is 0, hence the small number.
    distance = (away.square().sum(-1) + 1e-5).sqrt()
    return (known * distance).sum() / known.sum().clamp_min(1)


def inside_crop(uv: Tensor, size_px: int) -> Tensor:
    """(B, K) which keypoints (B, K, 2) the heatmaps can show; none whose uv is NaN."""
    return ((uv > -0.5) & (uv < size_px - 0.5)).all(-1)


def _cross_entropy(maps: Tensor, target: Tensor) -> Tensor:
    """(B, S, K) of the target as a distribution over the cells, above its own entropy."""
    q = target.flatten(-2)
    q = q / q.sum(-1, keepdim=True).clamp_min(1e-12)
    log_p = maps.flatten(-2).log_softmax(-1)
    return (torch.special.xlogy(q, q) - q * log_p).sum(-1)


def negative_log_likelihood(points: CropKeypoints, uv: Tensor, stride: int) -> Tensor:
    """(B, K) of keypoints uv (B, K, 2), up to a constant; robust, in units of the cells."""
    error = (uv - points.uv) / stride
    cov = points.cov_uv / stride**2
    a, b, d = cov[..., 0, 0], cov[..., 0, 1], cov[..., 1, 1]
    determinant = (a * d - b * b).clamp_min(1e-12)
    x, y = error.unbind(-1)
    s = (d * x * x - 2 * b * x * y + a * y * y) / determinant
    s = 2 * _ROBUST**2 * ((1 + s / _ROBUST**2).sqrt() - 1)  # pseudo-Huber
    return 0.5 * (s + determinant.log())


# All crops through one camera: of pixels divided by their own focal length.
NORMALISED_CAMERA = Camera.from_K([1, 0, 0, 0, 1, 0, 0, 0, 1], width=2, height=2)


def normalised_keypoints(points: CropKeypoints, batch: CropBatch) -> Keypoints:
    """Keypoints of B crops as NORMALISED_CAMERA would see them, float64."""
    f = batch.f[:, None, None]
    uv = (points.uv.double() - batch.c[:, None]) / f
    return Keypoints(uv, points.cov_uv.double() / f[..., None].square(), torch.ones_like(batch.f))
