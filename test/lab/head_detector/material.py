# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small pictures with labelled heads, and shards of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from face_pose_lab.head_detector.heads import Heads
from face_pose_lab.training.shards import shard_folder, write_manifest, write_shard

from face_pose_ros.faces.head_cells import FRONTAL_COLUMNS
from face_pose_ros.geometry import rotations

R_FRONTAL = rotations.from_columns(FRONTAL_COLUMNS)
SIDE_PX, UV, SIZE_PX = 96, (40.0, 52.0), 50.0


def turned(angle_deg: float) -> np.ndarray:
    """R_box_head of a head whose face is so far turned away from the camera."""
    return rotations.exp([0, np.radians(angle_deg), 0]) @ R_FRONTAL


def one_head(uv=UV, size_px: float = SIZE_PX, turn_deg: float = 0.0) -> Heads:
    """A head that is to be found."""
    yes = np.ones(1, bool)
    R = turned(turn_deg)[None]
    return Heads(np.array([uv], float), np.log([size_px]), R, yes, yes)


class MarkedHeads:
    """Grey pictures whose head has a red disc in its centre; every third one shows no head."""

    def __init__(self, empty: bool = True) -> None:
        self.empty = empty

    def __len__(self) -> int:
        return 7

    def picture(self, index: int) -> tuple[np.ndarray, Heads]:
        picture = np.full((SIDE_PX, SIDE_PX, 3), 90 + index, np.uint8)
        if self.empty and index % 3 == 0:
            return picture, Heads.none()
        cv2.circle(picture, tuple(int(x) for x in UV), 6, (250.0, 20.0, 20.0), -1)
        return picture, one_head()


class MarkedScenes:
    """Wide pictures with two marked heads of other sizes."""

    def __len__(self) -> int:
        return 3

    def picture(self, index: int) -> tuple[np.ndarray, Heads]:
        picture = np.full((120, 200, 3), 90 + index, np.uint8)
        for u, size in ((50, 40.0), (150, 60.0)):
            cv2.circle(picture, (u, 60), round(0.12 * size), (250.0, 20.0, 20.0), -1)
        return picture, one_head((50, 60), 40.0).join(one_head((150, 60), 60.0))


class BlackBackgrounds:
    """Pictures without anything."""

    def draw(self, side: int, rng: np.random.Generator) -> np.ndarray:
        return np.zeros((side, side, 3), np.uint8)


def poses(R_box_head: np.ndarray, distance_m: float = 0.8) -> np.ndarray:
    """(N, 4, 4) of heads on the optical axis."""
    T = np.tile(np.eye(4), (len(R_box_head), 1, 1))
    T[:, :3, :3] = R_box_head
    T[:, 2, 3] = distance_m
    return T


def write_crops(folder: Path, T: np.ndarray, visible: np.ndarray | None, shard: int = 0) -> None:
    """A shard of crops, whose pictures have their number in the shard as colour."""
    count = len(T)
    labels = {
        'T_crop_head': T.astype(np.float32),
        'K_crop': np.tile([[200.0, 0, 31.5], [0, 200, 31.5], [0, 0, 1]], (count, 1, 1)),
    }
    if visible is not None:
        labels['visible'] = visible
    write_manifest(folder, {'kind': 'crops'})
    write_shard(shard_folder(folder, shard), numbered(count, 64, 64, 10 * shard), labels)


def numbered(count: int, height: int, width: int, first: int = 0) -> np.ndarray:
    """(count, height, width, 3) pictures of one colour each: their number."""
    numbers = np.arange(first, first + count, dtype=np.uint8)
    return np.tile(numbers[:, None, None, None], (1, height, width, 3))


def write_map(path: Path, radiance: np.ndarray) -> None:
    """An environment map (H, 2 H, 3) RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), radiance[..., ::-1].astype(np.float32))
