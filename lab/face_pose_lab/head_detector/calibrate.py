# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Calibrate the head detector: the threshold of its score, and the covariance of its poses.

    python -m face_pose_lab.head_detector.calibrate STATE --scenes FOLDER --assets ASSETS \
        --out calibration.npz

The score is shifted so that above `head_detector.SURE_SCORE` one in a thousand pictures without
people has a false head; the pictures are made of the training's environment maps and patterns. The
covariances are the second moments, by apparent size, of the errors on rendered scenes of other
people over the network's sigmas, outliers included.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.head_detector.answers import Answers, answers_on_scenes
from face_pose_lab.head_detector.load import trained_detector
from face_pose_lab.head_detector.sources import Backgrounds, Scenes, panoramas
from face_pose_lab.training.heads.assets import MissingAssetError
from face_pose_lab.training.shards import ShardError
from face_pose_ros.faces.head_detector import SURE_SCORE, HeadDetector
from face_pose_ros.faces.head_uncertainty import HeadUncertainty
from face_pose_ros.geometry.camera import Camera

_KNOTS_PX = (20.0, 30.0, 50.0, 90.0, 220.0)
_ROUNDS = 20
_EMPTY, _EMPTY_PX = 4000, 320
_FALSE_PER_PICTURE = 1e-3
_LEAST_HEADS, _LEAST_NEAR_KNOT = 50, 7
_FROM_PX, _TO_PX = 16.0, 400.0  # apparent sizes of the heads that count


def best_false_scores(
    detector: HeadDetector, backgrounds: Backgrounds, count: int, seed: int
) -> NDArray[np.float64]:
    """(count,) the highest score in each of so many pictures without people; 0: no answer."""
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(_EMPTY_PX, _EMPTY_PX, 60)
    scores = np.zeros(count)
    for i in tqdm(range(count), desc='empty pictures', disable=None):
        found = detector.detect(backgrounds.draw(_EMPTY_PX, rng), camera).scores
        scores[i] = found.max(initial=0.0)
    return scores


def fit_covariance(answers: Answers, threshold: float) -> tuple[NDArray, NDArray]:
    """Knots (S,) of logarithmic sizes, and covariances (S, 6, 6) of e / sigma at these.

    Args:
        answers: Of an uncalibrated detector, whose covariances are those of the sigmas alone.
        threshold: Of the score.

    Raises:
        DataError: Too few heads are found, in all or of a size.
    """
    in_range = (answers.size_px >= _FROM_PX) & (answers.size_px < _TO_PX)
    used = (answers.score > threshold) & in_range
    if used.sum() < _LEAST_HEADS:
        raise DataError(f'{used.sum()} heads found, at least {_LEAST_HEADS} needed')
    log_size, sizes = np.log(_KNOTS_PX), answers.log_size[used]
    sigma = np.sqrt(np.diagonal(answers.covariance[used], axis1=1, axis2=2))
    e = answers.error[used] / sigma
    table = HeadUncertainty(np.array(0.0), log_size, np.tile(e.T @ e / len(e), (5, 1, 1)))
    # Weight of each knot for each head (S, J).
    knots = np.eye(len(log_size))[..., None, None] * np.ones((6, 6))
    share = np.stack(
        [table._replace(covariance=k).normalised(sizes)[:, 0, 0] for k in knots], axis=1
    )
    heads = share.sum(0)
    if heads.min() < _LEAST_NEAR_KNOT:
        raise DataError(
            f'{heads.min():.0f} heads found near {_KNOTS_PX[heads.argmin()]:.0f} px, at least '
            f'{_LEAST_NEAR_KNOT} needed: give more scenes'
        )
    share = share / heads
    for _ in range(_ROUNDS):
        # Until errors whitened by the table have the identity as second moments at every knot.
        L = np.linalg.cholesky(table.normalised(sizes))
        white = np.linalg.solve(L, e[..., None])[..., 0]
        moments = np.einsum('js,ja,jb->sab', share, white, white)
        L = np.linalg.cholesky(table.covariance)
        table = table._replace(covariance=L @ moments @ L.swapaxes(1, 2))
    return log_size, table.covariance


def calibrated(detector: HeadDetector, scenes: Scenes, backgrounds: Backgrounds) -> dict:
    """The fields of `HeadUncertainty`."""
    scores = np.sort(best_false_scores(detector, backgrounds, _EMPTY, seed=1))[::-1]
    sure = float(scores[int(_FALSE_PER_PICTURE * _EMPTY)])
    offset = _logit(SURE_SCORE) - _logit(sure)
    threshold = 1 / (1 + math.exp(offset))  # which becomes 0.5
    print(f'sure from {sure:.3f} on, proposed from {threshold:.3f} on')
    log_size, covariance = fit_covariance(answers_on_scenes(detector, scenes), threshold)
    return {'score_offset': np.array(offset), 'log_size': log_size, 'covariance': covariance}


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def main(args: Sequence[str] | None = None) -> None:
    """Write the calibration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--scenes', type=Path, nargs='+', required=True, help='rendered scenes')
    parser.add_argument('--assets', type=Path, required=True, help='with hdri/*.hdr')
    parser.add_argument('--out', type=Path, required=True, help='.npz file for `export`')
    options = parser.parse_args(args)
    try:
        fields = calibrated(
            trained_detector(options.state),
            Scenes(options.scenes),
            Backgrounds(panoramas(options.assets)),
        )
    except (DataError, MissingAssetError, ShardError) as error:
        parser.error(str(error))
    np.savez(options.out, **fields)


if __name__ == '__main__':
    main()
