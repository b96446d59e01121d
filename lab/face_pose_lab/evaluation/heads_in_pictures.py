# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pose errors of rendered heads in whole images, by turn of the head and size of the face.

    python -m face_pose_lab.evaluation.rendered_heads --facekit ict_facekit.npz --hdri FOLDER \
        --heads 300 --seed 303 --yaw 100 --pictures PICTURES --export heads.npz
    python -m face_pose_lab.evaluation.heads_in_pictures --heads heads.npz --pictures PICTURES
    python -m face_pose_lab.evaluation.heads_in_pictures --scenes FOLDER

`--heads`: another renderer than that of the training data. `--scenes`: the same renderer, with
people, assets and places that are not in the training data. Boxes are the true ones, so detection
is not measured. The turn is the angle between the face's x axis and the direction to the camera.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.pose_errors import (
    HEADING,
    PoseErrors,
    pose_errors,
    table_row,
    turn_deg,
)
from face_pose_lab.evaluation.rendered_heads import RenderedHeads
from face_pose_lab.training.shards import ShardError, open_shards
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.faces.head_detector import face_boxes
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.samples import load_image

_TURNS_DEG = (
    (0, 15), (15, 30), (30, 40), (40, 50), (50, 60), (60, 75), (75, 100),
    (0, 60), (60, 100), (0, 100),
)  # fmt: skip
_SIZES_PX = ((30, 60), (60, 120), (120, 2000))  # of the face's box
_MIN_VISIBLE = 0.7


class Head(NamedTuple):
    """One head in a picture."""

    picture: NDArray[np.uint8]  # (H, W, 3) RGB
    camera: Camera
    T_cam_head: NDArray[np.float64]  # (4, 4)


def heads_of_scenes(folder: str) -> Iterator[Head]:
    """Heads of which at least 70 % is visible.

    Raises:
        DataError: There is no complete shard.
        ShardError: There is no manifest.
    """
    shards = open_shards(Path(folder))
    if not shards:
        raise DataError(f'{folder}: no complete shard of pictures')
    for shard in shards:
        index, visible, T, K, dist = (
            np.asarray(shard.labels[name])
            for name in ('image_index', 'visible_fraction', 'T_cam_head', 'K', 'dist')
        )
        height, width = shard.pictures.shape[1:3]
        for i in np.flatnonzero(visible >= _MIN_VISIBLE):
            row = index[i]
            camera = Camera.from_K(K[row], width, height, dist[row])
            yield Head(np.array(shard.pictures[row]), camera, T[i].astype(np.float64))


def heads_of_export(file: Path, pictures: Path) -> Iterator[Head]:
    """Heads that evaluation.rendered_heads wrote.

    Raises:
        FileNotFoundError: The file or a picture is missing.
    """
    heads = RenderedHeads.load(file)
    for i in range(len(heads)):
        head = heads.head(i)
        picture = load_image(pictures / f'{i:05d}.png')
        yield Head(picture, head.camera.runtime(), head.T_cam_head)


class Answers(NamedTuple):
    """Estimates for N heads."""

    errors: PoseErrors  # of the M found
    found: NDArray[np.bool_]  # (N,)


def answers_of(heads: Sequence[Head], boxes: NDArray[np.float64]) -> Answers:
    """Estimate the pose in every box (N, 4) px."""
    estimator = FacePoseEstimator('cpu')
    found, T, covariance = [], [], []
    for head, box in zip(tqdm(heads, desc='heads', disable=None), boxes, strict=True):
        faces = estimator.estimate(head.picture, head.camera, box[None])
        found.append(bool(faces))
        for face in faces:
            T.append(face.T_cam_head)
            covariance.append(face.covariance)
    mask = np.array(found)
    true = np.stack([head.T_cam_head for head in heads])[mask]
    return Answers(pose_errors(np.stack(T), np.stack(covariance), true), mask)


def main(args: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--scenes', help='folder of rendered scenes, test split')
    source.add_argument('--heads', type=Path, help='.npz file of evaluation.rendered_heads')
    parser.add_argument('--pictures', type=Path, help='folder of the pictures of these heads')
    parser.add_argument('--json', type=Path, help='file to write the table to')
    options = parser.parse_args(args)
    if options.heads and not options.pictures:
        parser.error('--heads needs --pictures')
    try:
        every = (
            heads_of_scenes(options.scenes)
            if options.scenes
            else heads_of_export(options.heads, options.pictures)
        )
        heads, boxes = usable(every)
    except (DataError, ShardError, FileNotFoundError) as error:
        parser.error(str(error))
    answers, table = answers_of(heads, boxes), {}
    print(HEADING.replace('|yaw|', 'turn '))
    for name, mask in bins_of(heads, boxes).items():
        errors = answers.errors[mask[answers.found]]
        print(table_row(name, int(mask.sum()), errors))
        table[name] = figures_of(int(mask.sum()), errors)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


def figures_of(heads: int, errors: PoseErrors) -> dict[str, float]:
    """Figures of one bin; without means if no head was found."""
    found = len(errors.nees)
    if not found:
        return {'heads': heads, 'found': 0}
    return {
        'heads': heads,
        'found': found,
        'rotation_deg': float(errors.rotation_deg.mean()),
        'rotation_median_deg': float(np.median(errors.rotation_deg)),
        'nees_over_6': float(errors.nees.mean() / 6),
    }


def usable(every: Iterator[Head]) -> tuple[list[Head], NDArray[np.float64]]:
    """The heads that are large enough and not seen from behind, and their boxes (N, 4) px."""
    face, heads, boxes = deformable_face().xyz_head, [], []
    for head in every:
        (box,) = face_boxes(head.T_cam_head[None], face, head.camera)
        side = float((box[2:] - box[:2]).max())
        turn = float(turn_deg(head.T_cam_head[None])[0])
        if _SIZES_PX[0][0] <= side < _SIZES_PX[-1][1] and turn < _TURNS_DEG[-1][1]:
            heads.append(head)
            boxes.append(box)
    if not heads:
        raise DataError(f'no face of {_SIZES_PX[0][0]} px or more')
    return heads, np.stack(boxes)


def bins_of(heads: Sequence[Head], boxes: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Masks (N,) by turn [deg] and by side of the box [px]."""
    turn = turn_deg(np.stack([head.T_cam_head for head in heads]))
    size = (boxes[:, 2:] - boxes[:, :2]).max(-1)
    bins = {f'{a}-{b}': (turn >= a) & (turn < b) for a, b in _TURNS_DEG}
    return bins | {f'{a}px': (size >= a) & (size < b) for a, b in _SIZES_PX}


if __name__ == '__main__':
    main()
