# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Figures of the packaged head detector on rendered scenes and on pictures without people.

    python -m face_pose_lab.head_detector.evaluate --scenes scenes_test --assets ASSETS

The scenes are those of `training.render scenes --split test`: people and places that no training
shows. The pictures without people are views of the environment maps that no training shows,
patterns, letters and lines. A head counts as false with the detector alone, and with the whole
estimator, which also asks the keypoint network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.head_detector.answers import answers_on_scenes, figures
from face_pose_lab.head_detector.load import WHOLE, packaged_detector
from face_pose_lab.head_detector.sources import Backgrounds, Scenes, panoramas
from face_pose_lab.training.heads.assets import MissingAssetError
from face_pose_lab.training.shards import ShardError
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.geometry.camera import Camera

_EMPTY_SIZE = (480, 360)
_THRESHOLD = 0.5


def print_scenes(folders: Sequence[Path]) -> None:
    """Recall and errors by size at the default threshold, and false heads per picture."""
    answers = answers_on_scenes(packaged_detector(WHOLE), Scenes(folders))
    rows = figures(answers, _THRESHOLD)
    print(f'{"head [px]":<12}' + ''.join(f'{name:>22}' for name in rows['20-400']))
    for name, row in rows.items():
        print(f'{name:<12}' + ''.join(f'{value:>22.3f}' for value in row.values()))
    false = np.count_nonzero(answers.false_scores > _THRESHOLD) / answers.pictures
    print(f'false heads per picture: {false:.3f}')


def print_empty(assets: Path, count: int) -> None:
    """In how many pictures without people a head is found."""
    backgrounds = Backgrounds(panoramas(assets, held_out=True))
    rng = np.random.default_rng(7)
    width, height = _EMPTY_SIZE
    camera = Camera.from_fov(width, height, 60)
    estimator = FacePoseEstimator('cpu')
    detected = reported = 0
    for _ in tqdm(range(count), desc='pictures without people', disable=None):
        picture = np.ascontiguousarray(backgrounds.draw(width, rng)[:height])
        detected += len(estimator.detector.detect(picture, camera)) > 0
        reported += len(estimator.estimate(picture, camera)) > 0
    print(f'pictures without people with a head: {detected} of {count} by the detector')
    print(f'{reported} of {count} by the estimator')


def main(args: Sequence[str] | None = None) -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scenes', type=Path, nargs='+', required=True, help='rendered scenes')
    parser.add_argument('--assets', type=Path, required=True, help='with hdri/*.hdr')
    parser.add_argument('--empty', type=int, default=2000, help='pictures without people')
    options = parser.parse_args(args)
    try:
        print_scenes(options.scenes)
        print_empty(options.assets, options.empty)
    except (DataError, MissingAssetError, ShardError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
