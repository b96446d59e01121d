# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration of a trained hourglass: stated against measured errors on validation heads.

    python -m face_pose_lab.training.calibrate CHECKPOINT --crops FOLDER --scenes FOLDER \
        --out calibration.npz

FOLDERs hold rendered shards of the test split. Three things are fitted to the first half of the
crops, for heads turned by less than 100 deg, and evaluated on the other half:

- The covariance of a keypoint, gain * (the network's) + floor: by maximum likelihood of the errors
  without the largest hundredth, then scaled so that the mean NEES is 1.
- The effective number of independent keypoints, so that the mean NEES of the poses is 6.
- Presence, by logistic regression of the mean confidence, against crops of the scenes' background.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.pose_errors import turn_deg
from face_pose_lab.hourglass.network import StackedHourglass
from face_pose_lab.hourglass.numbers import KeypointCalibration
from face_pose_lab.torch_keypoints.heatmaps import CropKeypoints
from face_pose_lab.training.batches import CropBatch, CropSource
from face_pose_lab.training.checkpoints import CheckpointError
from face_pose_lab.training.config import DataOptions
from face_pose_lab.training.evaluate import load_trained
from face_pose_lab.training.evaluate_crops import predict_crops
from face_pose_lab.training.losses import (
    NORMALISED_CAMERA,
    inside_crop,
    normalised_keypoints,
)
from face_pose_lab.training.shards import ShardError, open_shards
from face_pose_ros.geometry import rotations
from face_pose_ros.keypoints import semantic
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel, semantic_head
from face_pose_ros.pose.fit import fit_pose

MAX_TURN_DEG = 100.0  # of the heads that are to be present
_MIRROR = torch.from_numpy(semantic.MIRROR)
_KEPT = 0.99  # of the squared errors; the others are other keypoints
_BACKGROUND_TRIES = 3  # crops per picture


class MeasuredHeads(NamedTuple):
    """Heads seen from within MAX_TURN_DEG of their front, and what the network says of them."""

    batch: CropBatch
    points: CropKeypoints

    def calibrated(self, calibration: KeypointCalibration) -> MeasuredHeads:
        """With covariances as they will be stated."""
        cov_uv = torch.from_numpy(calibration.covariance(self.points.cov_uv.double().numpy()))
        return MeasuredHeads(self.batch, self.points._replace(cov_uv=cov_uv))


def measured(network: StackedHourglass, batch: CropBatch, amp: bool) -> MeasuredHeads:
    """Ask the network, 64 crops at a time."""
    turn = turn_deg(batch.T_crop_head.double().numpy())
    rows = torch.from_numpy(np.flatnonzero(turn < MAX_TURN_DEG))
    batch = replace(batch, **{name: value[rows] for name, value in vars(batch).items()})
    with torch.no_grad():
        parts = [
            predict_crops(network, part / 255, _MIRROR, amp) for part in batch.pictures.split(64)
        ]
    points = CropKeypoints(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
    return MeasuredHeads(batch, points)


def errors_of(heads: MeasuredHeads, size_px: int) -> tuple[Tensor, Tensor]:
    """Errors (M, 2) px of all keypoints inside the crops, and their covariances (M, 2, 2)."""
    inside = inside_crop(heads.batch.uv, size_px)
    error = (heads.points.uv - heads.batch.uv)[inside].double()
    return error, heads.points.cov_uv[inside].double()


def nees_of(error: Tensor, cov_uv: Tensor) -> Tensor:
    """(M,) squared Mahalanobis distances of errors (M, 2), over 2."""
    return 0.5 * (error[:, None] @ torch.linalg.solve(cov_uv, error[..., None])).flatten()


def fit_covariance(error: Tensor, cov_uv: Tensor) -> tuple[float, float, float]:
    """Gain, floor [px^2], and the NEES that the network's own covariances have.

    Args:
        error: (M, 2) px.
        cov_uv: (M, 2, 2) px^2.
    """
    eye = torch.eye(2, dtype=error.dtype)
    own = nees_of(error, cov_uv)

    def kept(values: Tensor) -> Tensor:
        return values[values <= values.quantile(_KEPT)]

    def cost(x: np.ndarray) -> float:
        cov = float(np.exp(x[0])) * cov_uv + float(np.exp(x[1])) * eye
        likelihood = nees_of(error, cov) + 0.5 * cov.det().log()
        return float(kept(likelihood).mean())

    found = minimize(cost, [0.0, 0.0], method='Nelder-Mead').x
    gain, floor = np.exp(found)
    scale = float(nees_of(error, float(gain) * cov_uv + float(floor) * eye).mean())
    return float(gain) * scale, float(floor) * scale, float(own.mean())


def fit_presence(of_heads: Tensor, of_background: Tensor) -> tuple[float, float]:
    """Slope and middle of the logistic that tells mean confidences (N,) of both apart."""

    def cost(x: np.ndarray) -> float:
        logit_heads = float(np.exp(x[0])) * (of_heads - float(x[1]))
        logit_background = float(np.exp(x[0])) * (of_background - float(x[1]))
        softplus = torch.nn.functional.softplus
        return float(softplus(-logit_heads).mean() + softplus(logit_background).mean())

    slope, middle = minimize(cost, [3.0, 0.4], method='Nelder-Mead').x
    return float(np.exp(slope)), float(middle)


def pose_nees(heads: MeasuredHeads, model: FaceModel, independent_keypoints: float) -> Tensor:
    """(B,) squared Mahalanobis distance of the poses' errors, where they could be fitted."""
    batch, points = heads
    options = PoseOptions(visibility=False, independent_keypoints=independent_keypoints)
    measured = normalised_keypoints(points, batch).runtime()
    poses = fit_pose(measured, model, NORMALISED_CAMERA, options).poses
    fitted = ~poses.failed
    T_true = batch.T_crop_head.double().numpy()[fitted]
    error = rotations.difference(poses.T_cam_head[fitted], T_true)
    nees = error * np.linalg.solve(poses.covariance[fitted], error[..., None])[..., 0]
    return torch.from_numpy(nees.sum(-1))


def fit_independent_keypoints(heads: MeasuredHeads, model: FaceModel) -> float:
    """For which the mean NEES is 6, but for one head in a hundred; by bisection."""
    low, high = 1.0, 200.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        nees = pose_nees(heads, model, middle)
        if float(nees[nees <= nees.quantile(_KEPT)].mean()) > 6:
            high = middle
        else:
            low = middle
    return middle


def background_crops(folder: str, size_px: int) -> Tensor:
    """(N, 3, size, size) uint8: squares of the scenes that no head's keypoint lies in."""
    rng = np.random.default_rng(0)
    crops = []
    for shard in open_shards(Path(folder)):
        index, uv = np.asarray(shard.labels['image_index']), np.asarray(shard.labels['uv'])
        height, width = shard.pictures.shape[1:3]
        for row, picture in enumerate(shard.pictures):
            heads = uv[index == row].reshape(-1, 2)
            for _ in range(_BACKGROUND_TRIES):
                side = rng.integers(40, min(height, width) // 2)
                left, top = rng.integers(0, width - side), rng.integers(0, height - side)
                inside = ((heads >= (left, top)) & (heads < (left + side, top + side))).all(-1)
                if not inside.any():
                    part = torch.from_numpy(picture[top : top + side, left : left + side].copy())
                    part = part.permute(2, 0, 1)[None].float()
                    square = torch.nn.functional.interpolate(
                        part, (size_px, size_px), mode='bilinear', antialias=True
                    )
                    crops.append(square.round().byte())
    if not crops:
        raise DataError(f'{folder}: no part of a picture is without a head')
    return torch.cat(crops)


def calibrate(
    network: StackedHourglass, crops: str, scenes: str, amp: bool
) -> tuple[KeypointCalibration, dict[str, float]]:
    """The calibration, and figures of what it is worth.

    Raises:
        DataError: A folder has no complete shard.
    """
    source, size_px = CropSource([crops]), network.options.input_px
    half = len(source) // 2
    heads = measured(network, source.batch(np.arange(half)), amp)
    others = measured(network, source.batch(np.arange(half, len(source))), amp)
    error, cov_uv = errors_of(heads, size_px)
    gain, floor, own = fit_covariance(error, cov_uv)
    empty = background_crops(scenes, size_px)
    with torch.no_grad():
        nothing = [predict_crops(network, p / 255, _MIRROR, amp) for p in empty.split(64)]
    of_background = torch.cat([p.confidence.mean(-1) for p in nothing])
    of_heads = heads.points.confidence.mean(-1)
    slope, middle = fit_presence(of_heads, of_background)
    calibration = KeypointCalibration(gain, floor, slope, middle, independent_keypoints=1.0)

    model = semantic_head()
    independent = fit_independent_keypoints(heads.calibrated(calibration), model)
    error, cov_uv = errors_of(others.calibrated(calibration), size_px)
    figures = {
        'keypoint_nees_uncalibrated': own,
        'keypoint_nees_other_half': float(nees_of(error, cov_uv).mean()),
        'pose_nees_over_6_other_half': float(
            pose_nees(others.calibrated(calibration), model, independent).mean() / 6
        ),
        'heads_present_other_half': float(
            (others.points.confidence.mean(-1) > middle).double().mean()
        ),
        'background_present': float((of_background > middle).double().mean()),
        'background_crops': float(len(empty)),
    }
    return replace(calibration, independent_keypoints=independent), figures


def main(args: Sequence[str] | None = None) -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path, help='file, or folder of which the newest counts')
    parser.add_argument('--crops', required=True, help='folder of rendered crops, test split')
    parser.add_argument('--scenes', required=True, help='folder of rendered scenes, test split')
    parser.add_argument('--out', type=Path, help='.npz file to write, for training.export')
    options = parser.parse_args(args)
    try:
        task, config, _ = load_trained(options.checkpoint, DataOptions((), ()))
        calibration, figures = calibrate(task.network, options.crops, options.scenes, config.amp)
    except (CheckpointError, DataError, ShardError) as error:
        parser.error(str(error))
    numbers = asdict(calibration)
    for name, value in (numbers | figures).items():
        print(f'{name:<28}{value:10.4f}')
    if options.out:
        np.savez(options.out, calibration=np.array(list(numbers.values()), np.float32))


if __name__ == '__main__':
    main()
