# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of the keypoint network."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.keypoint_net.decode import NetworkOutput, decode
from face_pose_lab.torch_geometry import so3
from face_pose_ros.keypoints.network_output import INPUT_PX

_ROBUST = 3.0  # Mahalanobis distance above which an error counts linearly
_DROPPED = 0.1  # share of the photographs with the largest errors that is ignored: wrong labels


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms."""

    distance: float = 10.0  # of keypoints, relative to half the side
    likelihood: float = 0.15
    rotation: float = 0.5
    presence: float = 0.2


@dataclass(frozen=True)
class Batch:
    """B crops. The last ones may show no face: present is False, other labels are ignored."""

    pictures: Tensor  # (B, 3, 128, 128) uint8 RGB
    uv: Tensor  # (B, K, 2) float32 px
    weight: Tensor  # (B, K) float32
    R_crop_head: Tensor  # (B, 3, 3) float32
    is_photograph: Tensor  # (B,) bool
    present: Tensor  # (B,) bool

    def __getitem__(self, mask: Tensor) -> Batch:
        return Batch(*(getattr(self, f.name)[mask] for f in fields(self)))


def losses(numbers: Tensor, batch: Batch, options: LossOptions) -> dict[str, Tensor]:
    """Weighted terms by name, to be summed: means over rendered heads plus over photographs.

    Args:
        numbers: (B, 5 K + 7) float32, output of the network.
        batch: The crops.
        options: Weights.
    """
    output = decode(numbers)
    presence = F.binary_cross_entropy_with_logits(output.presence_logit, batch.present.float())
    terms = {'presence': options.presence * presence}
    for kind, mask in (('rendered', ~batch.is_photograph), ('photographs', batch.is_photograph)):
        rows = (mask & batch.present).nonzero()[:, 0]
        if not len(rows):
            continue
        heads, some = NetworkOutput(*(part[rows] for part in output)), batch[rows]
        total = some.weight.sum(1).clamp_min(1e-6)
        distance = (some.weight * distances(heads, some.uv)).sum(1) / total
        likelihood = (some.weight * negative_log_likelihood(heads, some.uv)).sum(1) / total
        rotation = rotation_distance(heads, some.R_crop_head)
        if kind == 'photographs':
            keep = _but_the_worst(distance)
            distance, likelihood, rotation = distance[keep], likelihood[keep], rotation[keep]
        terms[f'{kind} distance'] = options.distance * distance.mean()
        terms[f'{kind} likelihood'] = options.likelihood * likelihood.mean()
        terms[f'{kind} rotation'] = options.rotation * rotation.mean()
    return terms


def _but_the_worst(error: Tensor) -> Tensor:
    count = max(1, round((1 - _DROPPED) * len(error)))
    return error.detach().argsort()[:count]


def distances(output: NetworkOutput, uv: Tensor) -> Tensor:
    """(B, K) distances of predicted from true keypoints, relative to half the crop's side."""
    away = (output.uv - uv) / (0.5 * INPUT_PX)
    return (away.square().sum(-1) + 1e-6).sqrt()  # differentiable where it is 0


def negative_log_likelihood(output: NetworkOutput, uv: Tensor) -> Tensor:
    """(B, K) for true keypoints uv [px], up to a constant; robust by a pseudo-Huber function."""
    L = output.cholesky
    x, y = (uv - output.uv).unbind(-1)
    a, b, d = L[..., 0, 0], L[..., 1, 0], L[..., 1, 1]
    first = x / a
    second = (y - b * first) / d
    s = first.square() + second.square()
    s = 2 * _ROBUST**2 * ((1 + s / _ROBUST**2).sqrt() - 1)
    return 0.5 * s + a.log() + d.log()


def rotation_distance(output: NetworkOutput, R_crop_head: Tensor) -> Tensor:
    """(B,) Frobenius distance, which is 2 sqrt(2) times the sine of half the angle."""
    R = so3.from_columns(output.columns)
    return ((R - R_crop_head).square().sum((-2, -1)) + 1e-6).sqrt()
