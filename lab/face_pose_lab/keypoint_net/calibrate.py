# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Calibrate the covariances and presence of the keypoint network on heads of the test split.

    python -m face_pose_lab.keypoint_net.calibrate STATE --crops FOLDER \
        --false-heads false_heads --out calibration.npz

FOLDER has rendered crops of the test split; the first half is used to fit, the second half to
evaluate. Fitted for heads within 100 deg of the front:

- Covariance of a keypoint = gain * (predicted covariance) + floor, by maximum likelihood of the
  errors without the largest 1 %; then scaled to a mean NEES of 1.
- The effective number of independent keypoints, so that the mean NEES of poses is 6.
- Presence, by logistic regression of the logit, against crops without a face and pictures of
  `false_heads` that the training leaves out, which count the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from face_pose_lab.evaluation.pose_errors import turn_deg
from face_pose_lab.keypoint_net.decode import decode
from face_pose_lab.keypoint_net.examples import rendered
from face_pose_lab.keypoint_net.predict import Network, load_network
from face_pose_lab.keypoint_net.score_rendered import MeasuredCrops, measured_crops
from face_pose_lab.keypoint_net.train import FALSE_HELD_OUT
from face_pose_lab.keypoint_net.views import Picture, around_false_head, augmented, without_face
from face_pose_lab.training.calibrate import fit_covariance, fit_presence, nees_of
from face_pose_lab.training.losses import inside_crop
from face_pose_lab.training.shards import open_shards
from face_pose_lab.training_loop import as_input
from face_pose_ros.keypoints.network_output import INPUT_PX, Calibration
from face_pose_ros.pose.face_model import FaceModel, semantic_head

MAX_TURN_DEG = 100.0  # largest angle to the camera of heads that count as present
_KEPT = 0.99  # share of the squared errors; the rest is from heads that were not recognised


def keypoint_errors(heads: MeasuredCrops) -> tuple[Tensor, Tensor]:
    """Errors (M, 2) px of all keypoints inside the crops, and their predicted covariances."""
    output = decode(heads.numbers.double())
    uv_true = torch.from_numpy(heads.uv_true)
    inside = inside_crop(uv_true, INPUT_PX)
    cov = output.cholesky @ output.cholesky.mT
    return (uv_true - output.uv)[inside], cov[inside]


def fit_independent_keypoints(
    heads: MeasuredCrops, calibration: Calibration, model: FaceModel
) -> float:
    """The number for which the mean NEES of poses, without the largest 1 %, is 6; bisection."""
    low, high = 1.0, 200.0
    for _ in range(10):
        middle = (low * high) ** 0.5
        tried = replace(calibration, independent_keypoints=middle)
        nees = heads.pose_errors(tried, model)[0].nees
        if nees[nees <= np.quantile(nees, _KEPT)].mean() > 6:
            high = middle
        else:
            low = middle
    return middle


def crops_without_face(folder: Path, false_heads: Path, count: int) -> Iterator[Picture]:
    """Crops (128, 128, 3): beside the heads of a folder, and of `false_heads`, in turn."""
    source, rng = rendered([folder]), np.random.default_rng(0)
    others = open_shards(false_heads)[0].pictures[:FALSE_HELD_OUT]
    for i in range(count // 2):
        j = i % len(source)
        for crop in (
            without_face(source.picture(j), source.labels.uv[j], rng),
            around_false_head(others[i % len(others)], rng),
        ):
            yield augmented(crop, crop[::-1], rng)


@torch.no_grad()
def presence_logits(network: Network, crops: Iterable[Picture]) -> Tensor:
    """(N,) of N crops (128, 128, 3)."""
    logits, left = [], iter(crops)
    while some := list(islice(left, 64)):
        pictures = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2)
        logits.append(decode(network(as_input(pictures))).presence_logit)
    return torch.cat(logits)


def calibrate(
    network: Network, folder: Path, false_heads: Path
) -> tuple[Calibration, dict[str, float]]:
    """The calibration, and its figures on the other half of the heads."""
    every, model = measured_crops(network, folder), semantic_head()
    every = every[np.flatnonzero(turn_deg(every.T_cam_head) < MAX_TURN_DEG)]
    half = len(every.numbers) // 2
    heads, others = every[np.arange(half)], every[np.arange(half, 2 * half)]
    gain, floor, own = fit_covariance(*keypoint_errors(heads))
    empty = presence_logits(network, crops_without_face(folder, false_heads, 2 * half))
    shown = decode(heads.numbers).presence_logit
    slope, middle = fit_presence(shown, empty[:half])
    calibration = Calibration(gain, floor, slope, middle)
    independent = fit_independent_keypoints(heads, calibration, model)
    calibration = replace(calibration, independent_keypoints=independent)

    error, cov = keypoint_errors(others)
    cov = gain * cov + floor * torch.eye(2, dtype=cov.dtype)
    errors, found = others.pose_errors(calibration, model)
    return calibration, {
        'keypoint_nees_uncalibrated': own,
        'keypoint_nees': float(nees_of(error, cov).mean()),
        'pose_nees': float(errors.nees.mean()),
        'heads_present': float(found.mean()),
        'empty_present': float((empty[half:] > middle).double().mean()),
    }


def main(args: Sequence[str] | None = None) -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--crops', type=Path, required=True, help='rendered, test split')
    parser.add_argument('--false-heads', type=Path, required=True, help='of `false_heads`')
    parser.add_argument('--out', type=Path, help='.npz file to write')
    options = parser.parse_args(args)
    calibration, figures = calibrate(
        load_network(options.state), options.crops, options.false_heads
    )
    for name, value in (vars(calibration) | figures).items():
        print(f'{name:<28}{value:10.4f}')
    if options.out:
        np.savez(options.out, calibration=np.array(astuple(calibration)), **figures)


if __name__ == '__main__':
    main()
