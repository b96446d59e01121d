# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Calibrate the single-shot detector: its score, and the covariance of its poses.

    python -m face_pose_lab.training.calibrate_scenes REGION_CHECKPOINT --data FOLDER ... \
        --check FOLDER ... --out calibration.npz --figures figures.json

FOLDERs hold rendered scenes of people that are not in the training data. The covariances are
second moments, by size, of its errors over the sigmas that it states, outliers included. They are
tested on the images of --check.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.checkpoints import CheckpointError
from face_pose_lab.training.config import DataOptions
from face_pose_lab.training.evaluate import load_trained, table
from face_pose_lab.training.evaluate_scenes import SIZE_BINS_PX, Answers, answers_of
from face_pose_lab.training.scenes import SceneSource
from face_pose_lab.training.shards import ShardError
from face_pose_lab.training.tasks import RegionTask
from face_pose_ros.faces.head_uncertainty import HeadUncertainty

_KNOTS_PX = (20.0, 30.0, 50.0, 90.0, 220.0)
_ROUNDS = 20
_BOUNDS = (0.5, 0.9, 0.99)  # of chi-square with 6 degrees of freedom
_CHI2_6 = (5.348, 10.645, 16.812)


def fit_uncertainty(answers: Answers) -> HeadUncertainty:
    """The calibration from the heads found.

    Raises:
        DataError: Too few heads are found.
    """
    threshold = answers.threshold
    used = answers.score > threshold
    if int(used.sum()) < 50:
        raise DataError(f'{int(used.sum())} heads found, at least 50 needed for covariances')
    log_size, sizes = np.log(_KNOTS_PX), answers.log_size[used].numpy()
    e = (answers.error / answers.sigma)[used].numpy()
    covariance = np.tile(e.T @ e / len(e), (len(log_size), 1, 1))
    table_of = HeadUncertainty(np.array(0.0), log_size, covariance)
    # Weight of each knot for each head (S, J).
    knots = np.eye(len(log_size))[..., None, None] * np.ones((6, 6))
    share = np.stack([table_of._replace(covariance=k).normalised(sizes)[:, 0, 0] for k in knots])
    share = share / share.sum(-1, keepdims=True)
    for _ in range(_ROUNDS):
        # Until errors whitened by the table have the identity as second moments at every knot.
        L = np.linalg.cholesky(table_of.normalised(sizes))
        white = np.linalg.solve(L, e[..., None])[..., 0]
        moments = np.einsum('sj,ja,jb->sab', share, white, white)
        L = np.linalg.cholesky(table_of.covariance)
        table_of = table_of._replace(covariance=L @ moments @ L.swapaxes(1, 2))
    least = 1e-4  # a threshold of 0: the network has no false head
    offset = -math.log(max(threshold, least) / (1 - threshold))
    return table_of._replace(score_offset=np.array(offset))


def above(answers: Answers, threshold: float) -> tuple[float, float]:
    """Share of the heads found with scores above a threshold, and false answers per picture."""
    size, low, high = answers.size_px, SIZE_BINS_PX[0][0], SIZE_BINS_PX[-1][1]
    looked_for = (size >= low) & (size < high)
    found = float((answers.score[looked_for] > threshold).double().mean())
    return found, float((answers.false_scores > threshold).sum()) / answers.pictures


def nees_by_size(answers: Answers, uncertainty: HeadUncertainty) -> dict[str, dict[str, float]]:
    """Squared errors over stated covariances of the heads found, by apparent size; 6 is right.

    Also the share within the 50, 90 and 99 % quantiles of chi-square with 6 degrees of freedom.
    """
    found = answers.score > answers.threshold
    e = (answers.error / answers.sigma)[found].numpy()[..., None]
    size = answers.size_px[found].numpy()
    covariance = uncertainty.normalised(answers.log_size[found].numpy())
    nees = (e.swapaxes(1, 2) @ np.linalg.solve(covariance, e)).ravel()
    low, high = SIZE_BINS_PX[0][0], SIZE_BINS_PX[-1][1]
    bins = {f'{a}-{b}': (size >= a) & (size < b) for a, b in SIZE_BINS_PX}
    bins['all'] = (size >= low) & (size < high)
    rows = {}
    for name, these in bins.items():
        some = nees[these]
        rows[name] = {'found': float(len(some)), 'nees': float(some.mean())}
        for share, bound in zip(_BOUNDS, _CHI2_6, strict=True):
            within = 100 * (some < bound).mean()
            rows[name][f'within_{100 * share:.0f}_percent'] = float(within)
    return rows


def main(args: Sequence[str] | None = None) -> None:
    """Print the test of the covariances, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path, help='of a training of region_pose')
    parser.add_argument('--data', nargs='+', required=True, help='folders of rendered scenes')
    parser.add_argument('--check', nargs='+', required=True, help='folders of others')
    parser.add_argument('--out', type=Path, required=True, help='.npz file for training.export')
    parser.add_argument('--figures', type=Path, help='JSON of training.evaluate to add to')
    parser.add_argument('--threads', type=int, help='CPU threads')
    options = parser.parse_args(args)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        task, config, _ = load_trained(options.checkpoint, DataOptions())
        if not isinstance(task, RegionTask):
            raise DataError(f'{options.checkpoint}: expected a network of regions')
        detect = task.detector(task.network)
        answers, others = (
            answers_of(detect, SceneSource(folders).in_order(8), config.single_shot_loss, 'cpu')
            for folders in (options.data, options.check)
        )
        uncertainty = fit_uncertainty(answers)
    except (CheckpointError, DataError, ShardError) as error:
        parser.error(str(error))
    rows = nees_by_size(others, uncertainty)
    print(f'score threshold {answers.threshold:.3f}\n{table(rows)}')
    found, false = above(others, answers.threshold)
    print(f'above the threshold: {found:.1%} of the heads, {false:.3f} false ones per picture')
    np.savez(options.out, **uncertainty._asdict())
    if options.figures:
        figures = json.loads(options.figures.read_text())
        options.figures.write_text(json.dumps(figures | {'calibration': rows}, indent=1))


if __name__ == '__main__':
    main()
