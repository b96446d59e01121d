# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Collect what the packaged head detector takes for heads: pictures for `keypoint_net.train`.

    python -m face_pose_lab.keypoint_net.false_heads --assets ASSETS --scenes FOLDER \
        --chips FOLDER --out FOLDER

The pictures are crops around detections in views of the environment maps of the training split,
patterns and letters, in rendered scenes away from every head, and in photographs of `label_chips`
whose tiles were shuffled.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.head_detector.confirmation import away_from_heads
from face_pose_lab.head_detector.sources import (
    Backgrounds,
    Chips,
    Picture,
    Scenes,
    panoramas,
    scrambled,
)
from face_pose_lab.training.heads.assets import MissingAssetError
from face_pose_lab.training.shards import ShardError, shard_folder, write_manifest, write_shard
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import render_crops
from face_pose_ros.keypoints.predictor import FACE, crops_around_heads
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.results import Faces

SIZE_PX, MARGIN = 160, 2.0  # of the pictures: room for the moves of `train`
_SIDE_PX, _FOV_DEG = 320, 60.0
_SCRAMBLED = 0.25  # share of the pictures without people


def pictures_without_heads(
    backgrounds: Backgrounds, chips: Chips, rng: np.random.Generator
) -> Iterator[Picture]:
    """Endless."""
    while True:
        if rng.random() < _SCRAMBLED:
            picture = scrambled(chips.picture(int(rng.integers(len(chips))))[0], rng)
        else:
            picture = backgrounds.draw(_SIDE_PX, rng)
        yield np.ascontiguousarray(picture)


def crops_of(image: Picture, faces: Faces, camera: Camera) -> NDArray[np.uint8]:
    """(N, S, S, 3) around N detected faces, without those of which the lens sees nothing."""
    assert faces.coarse is not None
    xyz = semantic_head().xyz_head[FACE]
    uv = camera.project(rotations.apply(faces.coarse.T_cam_head, xyz)).uv
    crops = crops_around_heads(uv, camera, SIZE_PX, MARGIN)
    shown = np.rint(255 * render_crops(image, crops, camera)).astype(np.uint8)
    return shown[crops.valid].transpose(0, 2, 3, 1)


def main(args: Sequence[str] | None = None) -> None:
    """Detect and write one shard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--assets', type=Path, required=True, help='with hdri/*.hdr')
    parser.add_argument('--scenes', type=Path, required=True, help='rendered, split train')
    parser.add_argument('--chips', type=Path, required=True, help='of `label_chips`')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--pictures', type=int, default=12000, help='without people')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(args)
    try:
        backgrounds = Backgrounds(panoramas(options.assets))
        chips, scenes = Chips(options.chips), Scenes([options.scenes])
        write_manifest(options.out, {'kind': 'false heads', 'seed': options.seed})
    except (MissingAssetError, ShardError) as error:
        parser.error(str(error))
    detector = FacePoseEstimator('cpu').detector
    found = []
    for image, camera, faces in away_from_heads(detector, scenes, len(scenes)):
        found.append(crops_of(image, faces, camera))
    empty = pictures_without_heads(backgrounds, chips, np.random.default_rng(options.seed))
    for _ in tqdm(range(options.pictures), desc='pictures without people', disable=None):
        image = next(empty)
        camera = Camera.from_fov(image.shape[1], image.shape[0], _FOV_DEG)
        found.append(crops_of(image, detector.detect(image, camera), camera))
    pictures = np.concatenate(found)
    order = np.random.default_rng(options.seed).permutation(len(pictures))
    write_shard(shard_folder(options.out, 0), pictures[order], {})
    print(f'{len(pictures)} pictures in {options.out}')


if __name__ == '__main__':
    main()
