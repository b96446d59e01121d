# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A detector's answers beside the labels of rendered scenes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.head_detector.heads import FOUND_TO_DEG
from face_pose_lab.head_detector.sources import VISIBLE, Scenes
from face_pose_ros.faces.head_cells import cells_of_poses, head_boxes
from face_pose_ros.faces.head_detector import HeadDetector
from face_pose_ros.faces.head_uncertainty import log_apparent_size, pose_of_normalised
from face_pose_ros.faces.nms import box_overlaps
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.results import Faces

Array = NDArray[np.float64]

SIZE_BINS_PX = ((16, 20), (20, 28), (28, 40), (40, 56), (56, 80), (80, 160), (160, 400))
_MIN_IOU = 0.4  # of head boxes, from which an answer is about a head


@dataclass(frozen=True, eq=False)
class Answers:
    """Of S heads to be found; of a head that was not found: score 0, errors NaN."""

    size_px: Array  # (S,) apparent size
    score: Array  # (S,)
    error: Array  # (S, 6) normalised, see `faces.head_uncertainty`
    covariance: Array  # (S, 6, 6) of these errors, as stated
    log_size: Array  # (S,) of the answer's apparent size
    false_scores: Array  # of answers about no head
    pictures: int


def answers_on_scenes(detector: HeadDetector, scenes: Scenes) -> Answers:
    """Compare the answers with all heads that are to be found.

    Raises:
        DataError: No scene has one.
    """
    heads: list[list[Array]] = []
    false: list[float] = []
    for i in tqdm(range(len(scenes)), desc='scenes', disable=None):
        picture, _ = scenes.picture(i)
        T, visible = scenes.poses(i)
        camera = scenes.camera(i)
        faces = detector.detect(np.ascontiguousarray(picture), camera)
        rows, wrong = _compared(faces, T, visible, camera)
        heads += rows
        false += wrong
    if not heads:
        raise DataError(f'none of {len(scenes)} scenes has a head that is to be found')
    columns = (np.array(column, np.float64) for column in zip(*heads, strict=True))
    size_px, score, error, covariance, log_size = columns
    return Answers(size_px, score, error, covariance, log_size, np.array(false), len(scenes))


def _compared(
    faces: Faces, T: Array, visible: NDArray[np.floating], camera: Camera
) -> tuple[list[list[Array]], list[float]]:
    """Rows of the heads to be found, and scores of answers about no head."""
    assert faces.coarse is not None
    truth, seen = cells_of_poses(T, camera)
    R = rotations.from_columns(truth.columns).reshape(-1, 3, 3)
    turn = np.degrees(np.arccos(np.clip(-R[:, 2, 0], -1, 1)))
    end = np.array([camera.width, camera.height]) - 0.5
    inside = ((truth.uv > -0.5) & (truth.uv < end)).all(-1)
    wanted = seen & inside & (visible >= VISIBLE) & (turn <= FOUND_TO_DEG)
    found, _ = cells_of_poses(faces.coarse.T_cam_head, camera)
    boxes = np.concatenate([head_boxes(truth), head_boxes(found)])
    iou = box_overlaps(np.nan_to_num(boxes, posinf=0))[0][: len(T), len(T) :]
    best = np.full(len(T), -1)
    wrong = []
    for j, score in enumerate(faces.scores.astype(np.float64)):
        fits = (iou[:, j] >= _MIN_IOU) & (best < 0)
        if fits.any():
            best[int(np.where(fits, iou[:, j], -1.0).argmax())] = j
        elif not (iou[:, j] >= _MIN_IOU).any():
            wrong.append(float(score))
    rows = []
    for head in np.flatnonzero(wanted):
        j = best[head]
        row = [np.exp(truth.log_size[head]), 0.0, np.full(6, np.nan), np.eye(6), 0.0]
        if j >= 0:
            T_found = faces.coarse.T_cam_head[j : j + 1]
            J = pose_of_normalised(T_found)[0]
            difference = rotations.difference(T_found, T[head : head + 1])[0]
            J_inv = np.linalg.inv(J)
            row[1] = faces.scores[j]
            row[2] = J_inv @ difference
            row[3] = J_inv @ faces.coarse.covariance[j] @ J_inv.T
            row[4] = log_apparent_size(T_found, camera)[0]
        rows.append(row)
    return rows, wrong


def figures(answers: Answers, threshold: float) -> dict[str, dict[str, float]]:
    """Recall and errors of the heads found, by apparent size, and for all of them.

    Returns:
        By bin: `heads`; `recall`; `rotation_deg`, mean angle; `rotation_median_deg`;
        `depth_percent`, mean absolute error of the distance; `nees`, the mean squared error over
        the stated covariance, 6 is right.
    """
    size = answers.size_px
    bins = {f'{a}-{b}': (size >= a) & (size < b) for a, b in SIZE_BINS_PX}
    bins['20-400'] = (size >= 20) & (size < 400)
    return {name: _row(answers, these, threshold) for name, these in bins.items()}


def _row(answers: Answers, these: NDArray[np.bool_], threshold: float) -> dict[str, float]:
    found = these & (answers.score > threshold)
    e = answers.error[found]
    angle = np.degrees(np.linalg.norm(e[:, 3:], axis=-1))
    nees = np.einsum('si,sij,sj->s', e, np.linalg.inv(answers.covariance[found]), e)
    return {
        'heads': float(these.sum()),
        'recall': found.sum() / max(these.sum(), 1),
        'rotation_deg': _mean(angle),
        'rotation_median_deg': float(np.median(angle)) if len(angle) else np.nan,
        'depth_percent': 100 * _mean(np.abs(e[:, 2])),
        'nees': _mean(nees),
    }


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else np.nan
