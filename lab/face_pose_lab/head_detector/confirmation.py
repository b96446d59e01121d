# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Which detections the packaged keypoint network confirms, for several limits of its uncertainty.

    python -m face_pose_lab.head_detector.confirmation --chips FOLDER --crops crops_test \
        --scenes FOLDER --assets ASSETS

Compares limits for `keypoints.predictor`. True heads are held-out photographs
and rendered heads of the test split, pasted at any size and roll onto backgrounds; false
detections are those in backgrounds, and in rendered scenes away from every head.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.head_detector.heads import Similarity
from face_pose_lab.head_detector.sources import (
    Backgrounds,
    Chips,
    Crops,
    Picture,
    Scenes,
    Source,
    panoramas,
)
from face_pose_lab.training.heads.assets import MissingAssetError
from face_pose_lab.training.shards import ShardError
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.faces.head_detector import SURE_SCORE, HeadDetector
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops as CropsOfImage
from face_pose_ros.keypoints.network_output import packaged_calibration, read_keypoints
from face_pose_ros.keypoints.predictor import (
    FACE,
    LOW_SCORE,
    PACKAGED_LIMITS,
    SURE_PRESENCE,
    Limits,
    crops_around_heads,
)
from face_pose_ros.results import Faces, Keypoints, bounds_xyxy

Array = NDArray[np.float64]

_SIDE_PX, _FOV_DEG = 450, 28.0  # of images with a head
_EMPTY_PX, _EMPTY_FOV_DEG = 320, 60.0
_SMALLEST_PX, _LARGEST_PX = 24.0, 300.0  # apparent sizes
_SIZES_PX = (24, 32, 40, 60, 90, 160, 300)
_TURNED_TO_DEG = 100.0
_SAME, _AWAY = 0.4, 1.2  # distance from a head's centre, in apparent sizes


@dataclass(frozen=True, eq=False)
class Detections:
    """Of N heads or places without one."""

    size_px: Array  # (N,) apparent, of true heads
    score: Array  # (N,) of the detector; 0: not detected
    presence: Array  # (N, 2) after all crops: at the detected roll, at the best other one
    sigma: Array  # (N, 2) median standard deviation of the face's keypoints over its size

    def __getitem__(self, rows: NDArray) -> Detections:
        return Detections(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def none(cls, count: int) -> Detections:
        """Of so many heads that are not detected."""
        return cls(*np.zeros((2, count)), *np.zeros((2, count, 2)))

    @classmethod
    def join(cls, parts: Sequence[Detections]) -> Detections:
        """All of them."""
        every = [cls.none(0), *parts]
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(p, name) for p in every]) for name in names))

    def confirmed(self, limits: Limits) -> NDArray[np.bool_]:
        """(N,) whether the keypoint network confirms them, each alone in its picture."""
        sure = (self.presence >= SURE_PRESENCE) & (self.sigma < limits.of(self.score)[:, None])
        as_detected, rolled = sure.T
        return (self.score > 0) & (as_detected | (rolled & (self.score >= LOW_SCORE)))


class Study:
    """Runs detector and keypoint network of an estimator."""

    def __init__(self) -> None:
        """Load the packaged networks."""
        self._estimator = FacePoseEstimator('cpu')
        self._calibration = packaged_calibration()

    @property
    def detector(self) -> HeadDetector:
        """The packaged one."""
        return self._estimator.detector

    def measured(self, image: Picture, camera: Camera, faces: Faces) -> Detections:
        """Keypoints at both rolls of N detected faces."""
        count = len(faces)
        crops = self._estimator.keypoints.first_crops(faces, camera)
        quarters = np.tile(0.5 * math.pi * np.arange(1, 4), count)
        rolled = crops[np.repeat(np.arange(count), 3)].rolled(quarters)
        presence = self._keypoints(image, camera, rolled).presence.reshape(-1, 3)
        best = rolled[3 * np.arange(count) + presence.argmax(1)]
        both = [self._refined(image, camera, each) for each in (crops, best)]
        return Detections(
            np.zeros(count),
            faces.scores.astype(float),
            np.stack([k.presence for k in both], 1),
            np.stack([_median_sigma(k) for k in both], 1),
        )

    def _refined(self, image: Picture, camera: Camera, crops: CropsOfImage) -> Keypoints:
        keypoints = self._keypoints(image, camera, crops)
        for _ in range(self._estimator.options.keypoints.max_crops - 1):
            crops = crops_around_heads(keypoints.uv[:, FACE], camera)
            keypoints = self._keypoints(image, camera, crops)
        return keypoints

    def _keypoints(self, image: Picture, camera: Camera, crops: CropsOfImage) -> Keypoints:
        (numbers,) = self._estimator.keypoints.network.on_crops(image, crops, camera)
        return read_keypoints(numbers, crops, camera, self._calibration)


def _median_sigma(keypoints: Keypoints) -> Array:
    boxes = bounds_xyxy(keypoints.uv[:, FACE])
    side = (boxes[:, 2:] - boxes[:, :2]).max(1)
    return np.asarray(np.median(keypoints.sigma_px[:, FACE], axis=1) / side)


def heads_in_backgrounds(
    study: Study, source: Source, backgrounds: Backgrounds, count: int, seed: int
) -> Detections:
    """One head in the middle of each picture."""
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(_SIDE_PX, _SIDE_PX, _FOV_DEG)
    middle = np.full(2, 0.5 * (_SIDE_PX - 1))
    parts = []
    for _ in tqdm(range(count), desc='heads', disable=None):
        picture, heads = source.picture(int(rng.integers(len(source))))
        background = backgrounds.draw(_SIDE_PX, rng)
        size = float(np.exp(rng.uniform(np.log(_SMALLEST_PX), np.log(_LARGEST_PX))))
        roll = rng.integers(4) * 0.5 * math.pi + rng.normal(0, 0.15)
        if not len(heads) or not heads.wanted[0] or heads.turn_deg[0] > _TURNED_TO_DEG:
            continue
        scale = size / float(np.exp(heads.log_size[0]))
        move = Similarity.placing(heads.uv[0], middle, scale, roll)
        image = _pasted(background, picture, move)
        faces = study.detector.detect(image, camera)
        near = np.flatnonzero(np.linalg.norm(_centres(faces) - middle, axis=1) < _SAME * size)
        nearest = faces[near[:1]]
        found = study.measured(image, camera, nearest) if len(near) else Detections.none(1)
        parts.append(replace(found, size_px=np.array([size])))
    return Detections.join(parts)


def _pasted(background: Picture, picture: Picture, move: Similarity) -> Picture:
    """The background with a moved picture on it."""
    matrix, scale = move.matrix, move.scale
    if scale < 1:  # cv2.warpAffine does not average
        picture = np.asarray(
            cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
        matrix[:, :2] /= scale
    extent = background.shape[1], background.shape[0]
    mask = cv2.warpAffine(np.full(picture.shape[:2], 255, np.uint8), matrix, extent) > 127
    image = background.copy()
    image[mask] = cv2.warpAffine(picture, matrix, extent)[mask]
    return image


def _centres(faces: Faces) -> Array:
    return 0.5 * (faces.boxes_xyxy[:, :2] + faces.boxes_xyxy[:, 2:]).astype(float)


def false_in_backgrounds(
    study: Study, backgrounds: Backgrounds, count: int, seed: int
) -> Detections:
    """All detections in pictures without people."""
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(_EMPTY_PX, _EMPTY_PX, _EMPTY_FOV_DEG)
    parts = []
    for _ in tqdm(range(count), desc='pictures without people', disable=None):
        image = np.ascontiguousarray(backgrounds.draw(_EMPTY_PX, rng))
        faces = study.detector.detect(image, camera)
        if len(faces):
            parts.append(study.measured(image, camera, faces))
    return Detections.join(parts)


def false_in_scenes(study: Study, scenes: Scenes, count: int) -> Detections:
    """Detections away from all heads of the first pictures."""
    parts = []
    for image, camera, faces in away_from_heads(study.detector, scenes, count):
        parts.append(study.measured(image, camera, faces))
    return Detections.join(parts)


def away_from_heads(
    detector: HeadDetector, scenes: Scenes, count: int
) -> Iterator[tuple[Picture, Camera, Faces]]:
    """First pictures of rendered scenes with their detections away from every head."""
    for i in tqdm(range(min(count, len(scenes))), desc='scenes', disable=None):
        picture, heads = scenes.picture(i)
        image, camera = np.ascontiguousarray(picture), scenes.camera(i)
        faces = detector.detect(image, camera)
        distance = np.linalg.norm(heads.uv - _centres(faces)[:, None], axis=-1)
        away = (distance / np.exp(heads.log_size)).min(1, initial=np.inf) > _AWAY
        if away.any():
            yield image, camera, faces[away]


def candidates() -> Iterator[Limits]:
    """Limits to compare; the packaged ones first."""
    yield PACKAGED_LIMITS
    for low in (0.025, 0.035, 0.05, 0.07):
        for high in (0.055, 0.07, 0.1):
            yield Limits(low, high)


def main(args: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--chips', type=Path, required=True, help='of `label_chips`')
    parser.add_argument('--crops', type=Path, required=True, help='rendered, of the test split')
    parser.add_argument('--scenes', type=Path, required=True, help='rendered')
    parser.add_argument('--assets', type=Path, required=True, help='with hdri/*.hdr')
    parser.add_argument('--heads', type=int, default=500, help='of each kind')
    parser.add_argument('--empty', type=int, default=2000, help='pictures without people')
    options = parser.parse_args(args)
    try:
        backgrounds = Backgrounds(panoramas(options.assets))
        sources: dict[str, Source] = {
            'photographs': Chips(options.chips, held_out=True),
            'rendered': Crops([options.crops]),
        }
        scenes = Scenes([options.scenes])
    except (MissingAssetError, ShardError) as error:
        parser.error(str(error))
    study = Study()
    true = {
        name: heads_in_backgrounds(study, source, backgrounds, options.heads, seed)
        for seed, (name, source) in enumerate(sources.items())
    }
    false = Detections.join(
        [
            false_in_backgrounds(study, backgrounds, options.empty, seed=2),
            false_in_scenes(study, scenes, options.heads),
        ]
    )
    print_limits(true, false)
    print_sizes(true)


def print_limits(true: dict[str, Detections], false: Detections) -> None:
    """Confirmed heads [%] and false ones for each of the candidates."""
    print(f'{"to 0.6":>12}{"at 0.9":>8}', end='')
    print(''.join(f'{name:>14}' for name in true), f'{"false":>7} of {len(false.score)}')
    for limits in candidates():
        shares = [100 * found.confirmed(limits).mean() for found in true.values()]
        print(f'{limits.low:>12}{limits.high:>8}', end='')
        print(''.join(f'{share:>13.1f}%' for share in shares), end='')
        print(f'{false.confirmed(limits).sum():>8}')


def print_sizes(true: dict[str, Detections]) -> None:
    """By size: detected, confirmed, above SURE_SCORE [%], with the packaged limits."""
    print(f'{"size [px]":<12}' + ''.join(f'{name:>30}' for name in true))
    for low, high in pairwise(_SIZES_PX):
        row = f'{low}-{high}'.ljust(12)
        for found in true.values():
            these = found[(found.size_px >= low) & (found.size_px < high)]
            columns = (
                these.score > 0, these.confirmed(PACKAGED_LIMITS), these.score > SURE_SCORE
            )  # fmt: skip
            shares = ', '.join(f'{100 * c.mean() if len(c) else 0:.0f}' for c in columns)
            row += f'{shares:>30}'
        print(row)


if __name__ == '__main__':
    main()
