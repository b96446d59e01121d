# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A contact sheet: rendered images with their labels drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.training.shards import Shard, open_shards

Picture = NDArray[np.uint8]
_CELL_PX = {'crops': 256, 'scenes': 480}
_AXIS_M = 0.08
_AXES_RGB = ((255, 0, 0), (0, 200, 0), (0, 0, 255))
_SEEN_RGB, _COVERED_RGB = (0, 255, 0), (255, 255, 0)
_DOTS_FROM_PX = 48  # size of a head from which its keypoints are drawn


def draw_sheet(folder: Path, path: Path, count: int) -> None:
    """Draw the first pictures of a folder: head frames, and the keypoints that are visible.

    Red, green and blue are x, y and z of the head frame. Keypoints are green, or yellow where hair
    or headwear covers them. Every second crop is left as it is.

    Args:
        folder: Holds the shards.
        path: File to write.
        count: How many pictures to draw at most.
    """
    cells: list[Picture] = []
    for shard in open_shards(folder):
        draw = _scenes if 'image_index' in shard.labels else _crops
        cells += list(draw(shard, count - len(cells)))
    columns = math.ceil(math.sqrt(len(cells) * 1.3))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def _crops(shard: Shard, count: int) -> Iterator[Picture]:
    labels, side = shard.labels, _CELL_PX['crops']
    for i, picture in enumerate(shard.pictures[:count]):
        large = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
        if i % 2:
            scale = side / len(picture)
            K, T = labels['K_crop'][i], labels['T_crop_head'][i]
            _draw_head(large, labels, i, K, np.zeros(5), T, scale)
        yield np.asarray(large)


def _scenes(shard: Shard, count: int) -> Iterator[Picture]:
    labels, width = shard.labels, _CELL_PX['scenes']
    for i, picture in enumerate(shard.pictures[:count]):
        scale = width / picture.shape[1]
        large = cv2.resize(picture, (width, 3 * width // 4), interpolation=cv2.INTER_AREA)
        for face in np.flatnonzero(labels['image_index'] == i):
            box = (labels['box_xyxy'][face] + 0.5) * scale - 0.5
            low, high = (tuple(int(x) for x in corner) for corner in (box[:2], box[2:]))
            cv2.rectangle(large, low, high, _SEEN_RGB, 1)
            text = f'{labels["visible_fraction"][face]:.2f}'
            cv2.putText(large, text, low, cv2.FONT_HERSHEY_SIMPLEX, 0.35, _SEEN_RGB)
            K, dist, T = labels['K'][i], labels['dist'][i], labels['T_cam_head'][face]
            _draw_head(large, labels, face, K, dist, T, scale)
        yield np.asarray(large)


def _draw_head(
    picture: NDArray,
    labels: dict[str, NDArray],
    row: int,
    K: NDArray,
    dist: NDArray,
    T: NDArray,
    scale: float,
) -> None:
    shift = 4  # sixteenths of a pixel

    def fine(uv: NDArray) -> list[tuple[int, int]]:
        at = (((uv + 0.5) * scale - 0.5) * 2**shift).round().clip(-30000, 30000)
        return [(int(u), int(v)) for u, v in at]

    if labels['head_size_px'][row] > _DOTS_FROM_PX:
        covered, visible = labels['covered'][row], labels['visible'][row]
        for place, is_covered in zip(
            fine(labels['uv'][row][visible]), covered[visible], strict=True
        ):
            colour = _COVERED_RGB if is_covered else _SEEN_RGB
            cv2.circle(picture, place, 24, colour, -1, cv2.LINE_AA, shift)
    ends = np.concatenate([np.zeros((1, 3)), _AXIS_M * np.eye(3)]) @ T[:3, :3].T + T[:3, 3]
    if ends[:, 2].min() < 0.05:
        return
    origin, *tips = fine(cv2.projectPoints(ends, np.zeros(3), np.zeros(3), K, dist)[0][:, 0])
    for tip, colour in zip(tips, _AXES_RGB, strict=True):
        cv2.line(picture, origin, tip, colour, 2, cv2.LINE_AA, shift)
