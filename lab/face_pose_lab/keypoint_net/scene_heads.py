# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cut the heads of rendered scenes out, as pictures for `keypoint_net.train`.

    python -m face_pose_lab.keypoint_net.scene_heads SCENES --out FOLDER

Unlike rendered crops they have other people and things beside and before them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.keypoint_net.label_photographs import PICTURE_PX, picture_of
from face_pose_lab.keypoint_net.predict import to_crop
from face_pose_lab.training.shards import (
    Shard,
    ShardError,
    open_shards,
    shard_folder,
    write_manifest,
    write_shard,
)
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.predictor import FACE, crops_around_heads

_MARGIN = 2.0  # room for the moves of `train`
_SMALLEST_PX, _LEAST_VISIBLE = 48.0, 0.25


def heads_of(shard: Shard) -> Iterator[tuple[NDArray[np.uint8], dict[str, NDArray]]]:
    """Picture (S, S, 3) and labels of each head that is large and visible enough to measure."""
    labels = shard.labels
    wanted = labels['head_size_px'] > _SMALLEST_PX
    wanted &= labels['visible_fraction'] > _LEAST_VISIBLE
    for row in np.flatnonzero(wanted):
        number = labels['image_index'][row]
        image = np.asarray(shard.pictures[number])
        camera = Camera.from_K(
            labels['K'][number], image.shape[1], image.shape[0], tuple(labels['dist'][number])
        )
        uv = labels['uv'][row].astype(float)
        crop = crops_around_heads(uv[None, FACE], camera, PICTURE_PX, _MARGIN)
        if not crop.valid[0]:
            continue
        R = crop.R_cam_crop[0]
        T = labels['T_cam_head'][row].copy()
        xyz_cam = labels['xyz_head'][row] @ T[:3, :3].T + T[:3, 3]
        T[:3] = R.T @ T[:3]
        f, c = float(crop.focal_px[0]), 0.5 * (PICTURE_PX - 1)
        yield (
            picture_of(image, crop, camera),
            {
                'uv': to_crop(xyz_cam[None], crop)[0].astype(np.float32),
                'T_crop_head': T.astype(np.float32),
                'K_crop': np.array([[f, 0, c], [0, f, c], [0, 0, 1]], np.float32),
            },
        )


def main(args: Sequence[str] | None = None) -> None:
    """Write a shard of heads for each shard of scenes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scenes', type=Path, help='folder of rendered scenes, split train')
    parser.add_argument('--out', type=Path, required=True)
    options = parser.parse_args(args)
    try:
        shards = open_shards(options.scenes)
        write_manifest(options.out, {'kind': 'heads of scenes', 'scenes': options.scenes.name})
    except ShardError as error:
        parser.error(str(error))
    count = 0
    for number, shard in enumerate(shards):
        found = list(heads_of(shard))
        if not found:
            continue
        pictures, labels = zip(*found, strict=True)
        names = labels[0]
        write_shard(
            shard_folder(options.out, number),
            np.stack(pictures),
            {name: np.stack([each[name] for each in labels]) for name in names},
        )
        count += len(found)
    print(f'{count} heads in {options.out}')


if __name__ == '__main__':
    main()
