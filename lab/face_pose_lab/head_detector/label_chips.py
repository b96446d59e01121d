# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Label FairFace's chips with head poses, by the packaged keypoint network.

    python -m face_pose_lab.head_detector.label_chips REPOSITORY --data AFLW2000 --out FOLDER

Each chip (224 px, one face in its middle) is measured as it is and mirrored. Chips whose face may
be one of the evaluation set, by the comparison of `keypoint_net.leaks`, are dropped.

A shard holds pictures (N, 224, 224, 3) uint8 RGB, and labels.npz:

    name         (N,)       path in the repository
    uv           (N, 2)     px, centre of the head
    log_size     (N,)       logarithm of the head's apparent size [px]
    R_box_head   (N, 3, 3)  relative to the ray through the centre, see `faces.head_detector`
    apart_deg    (N,)       angle between both measurements; infinite where one has no face

Without a face in either measurement, centre and size are the medians of the other chips.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation.aflw2000_samples import load_samples
from face_pose_lab.keypoint_net.label_photographs import (
    Placed,
    picture_of,
    placed_at_box,
    placed_chips,
)
from face_pose_lab.keypoint_net.leaks import cells, closest, is_close
from face_pose_lab.keypoint_net.sources import fairface, read_photographs
from face_pose_lab.training.shards import shard_folder, write_manifest, write_shard
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.faces.head_cells import cells_of_poses
from face_pose_ros.geometry import rotations
from face_pose_ros.keypoints.predictor import FACE_MESH_INDEX, crops_around_heads
from face_pose_ros.results import FacePose
from face_pose_ros.samples import load_image

SHARD = 512
SIDE_PX, _PADDED_PX = 224, 448
_CELLS = 576
_MIRRORED_CAMERA = np.diag([-1.0, 1.0, 1.0])
_MIRRORED_HEAD = np.diag([1.0, -1.0, 1.0])

Labels = dict[str, Any]


class Labeller:
    """The packaged keypoint network and the fit."""

    def __init__(self) -> None:
        self._estimator = FacePoseEstimator('cpu', threads=1)

    def measure(self, placed: Placed, mirror: bool = False) -> FacePose | None:
        """The face in the box of a picture, or in the mirrored picture."""
        image, box = placed.image, placed.box_xyxy
        if mirror:
            image = np.ascontiguousarray(image[:, ::-1])
            left, top, right, bottom = box
            last = image.shape[1] - 1
            box = np.array([last - right, top, last - left, bottom])
        found = self._estimator.estimate(image, placed.camera, box[None])
        return found[0] if found else None

    def label(self, placed: Placed) -> Labels:
        """Labels of a picture, NaN and infinite without a face, and the cells of its face."""
        direct, mirrored = self.measure(placed), self.measure(placed, mirror=True)
        labels = {
            'name': placed.name,
            'uv': np.full(2, np.nan),
            'log_size': np.nan,
            'R_box_head': np.eye(3),
            'apart_deg': np.inf,
            'cells': np.zeros(_CELLS, np.float32),
        }
        if direct is None or mirrored is None:
            return labels
        T = direct.T_cam_head
        R = _MIRRORED_CAMERA @ mirrored.T_cam_head[:3, :3] @ _MIRRORED_HEAD
        middle, _ = cells_of_poses(T[None], placed.camera)
        return labels | {
            'uv': middle.uv[0],
            'log_size': middle.log_size[0],
            'R_box_head': rotations.from_columns(middle.columns)[0],
            'apart_deg': np.degrees(rotations.angle_between(T[:3, :3], R)),
            'cells': self._cells(placed, direct),
        }

    def _cells(self, placed: Placed, face: FacePose) -> NDArray[np.float32]:
        uv = face.keypoints_uv[FACE_MESH_INDEX][None]
        return cells(
            picture_of(placed.image, crops_around_heads(uv, placed.camera), placed.camera)
        )


def chips(repository: Path, numbers: NDArray[np.int64]) -> list[tuple[Any, Placed]]:
    """Chips by their number in the repository, each with its padded picture."""
    paths = fairface(repository)
    photographs = list(read_photographs(repository, [paths[i] for i in numbers]))
    return [(p.rgb, placed) for p in photographs for placed in placed_chips([p])]


def write(folder: Path, found: list[tuple[Any, Labels]], evaluated: NDArray[np.float32]) -> None:
    """Write a shard of chips that are close to none of the evaluation's cells (N, 576)."""
    labels = {key: np.stack([np.array(said[key]) for _, said in found]) for key in found[0][1]}
    kept = ~is_close(*closest(labels.pop('cells'), evaluated))
    pad = 0.5 * (_PADDED_PX - SIDE_PX)
    labels['uv'] = labels['uv'] - pad
    unmeasured = ~np.isfinite(labels['apart_deg'])
    for key in ('uv', 'log_size'):
        labels[key][unmeasured] = np.median(labels[key][~unmeasured], 0)
    pictures = np.stack([rgb for rgb, _ in found])
    write_shard(folder, pictures[kept], {key: values[kept] for key, values in labels.items()})


def main(args: Sequence[str] | None = None) -> None:
    """Label chips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('repository', type=Path, help='a clone of the source')
    parser.add_argument('--data', type=Path, required=True, help='folder of AFLW2000-3D')
    parser.add_argument('--out', type=Path, required=True, help='folder of the shards')
    parser.add_argument('--count', type=int, default=24000, help='chips')
    options = parser.parse_args(args)
    labeller = Labeller()
    samples = [
        placed_at_box(s.name, load_image(s.path), s.box_xyxy) for s in load_samples(options.data)
    ]
    evaluated = np.stack([labeller.label(s)['cells'] for s in samples])
    mirrored = evaluated.reshape(-1, 24, 24)[..., ::-1].reshape(evaluated.shape)
    evaluated = np.concatenate([evaluated, mirrored])
    evaluated = evaluated[np.abs(evaluated).sum(1) > 0]
    write_manifest(options.out, {'source': 'fairface', 'count': options.count})
    order = np.random.default_rng(0).permutation(len(fairface(options.repository)))
    for number in tqdm(range(options.count // SHARD), unit='shard'):
        chosen = order[number * SHARD : (number + 1) * SHARD]
        found = [(rgb, labeller.label(p)) for rgb, p in chips(options.repository, chosen)]
        write(shard_folder(options.out, number), found, evaluated)


if __name__ == '__main__':
    main()
