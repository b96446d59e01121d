# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures to compose training images of: heads, scenes, and what shows no head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.head_detector.heads import ABSENT_FROM_DEG, Heads, heads_of_poses, with_turn
from face_pose_lab.synthetic.shading import load_panorama
from face_pose_lab.training.heads.assets import HDRI_SOURCE, HELD_OUT, MissingAssetError
from face_pose_lab.training.heads.light import made_up
from face_pose_lab.training.shards import Shard, ShardError, open_shards
from face_pose_ros.faces.head_cells import cells_of_poses
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Rng = np.random.Generator

_SURE_DEG = 8.0  # between a chip's two measurements, up to which its pose is a label
_FEW = 12  # keypoints: a rendered head that nothing hides shows more of them from any side
VISIBLE = 0.3  # share of a face in a scene from which it is wanted
_SKY_LIMIT = 4.0  # radiance over the mean that is white


class Source(Protocol):
    """Pictures with labelled heads."""

    def __len__(self) -> int: ...

    def picture(self, index: int) -> tuple[Picture, Heads]:
        """A picture and its heads."""


def _complete_shards(folders: Sequence[Path]) -> list[Shard]:
    found = {folder: open_shards(folder) for folder in folders}
    for folder, shards in found.items():
        if not shards:
            raise ShardError(f'{folder}: no complete shard of pictures')
    return [shard for shards in found.values() for shard in shards]


class Crops:
    """Rendered crops, and photographs that were turned out of plane: one head each."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Open the complete shards.

        Raises:
            ShardError: There is none in a folder.
        """
        shards = _complete_shards(folders)
        self._pictures = [shard.pictures for shard in shards]
        self._places = [(s, i) for s, p in enumerate(self._pictures) for i in range(len(p))]
        self._heads = Heads.none()
        for shard in shards:
            labels = shard.labels
            K = labels['K_crop'].astype(np.float64)
            hidden = np.zeros(len(K), bool)
            if 'visible' in labels:
                hidden = labels['visible'].sum(1) < _FEW
            T = labels['T_crop_head'].astype(np.float64)
            heads = heads_of_poses(T, K[:, 0, 0], K[:, :2, 2], hidden)
            self._heads = self._heads.join(heads)

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, index: int) -> tuple[Picture, Heads]:
        """See `Source`; a head seen from behind is background."""
        shard, row = self._places[index]
        heads = self._heads[index : index + 1]
        return np.asarray(self._pictures[shard][row]), heads[heads.turn_deg < ABSENT_FROM_DEG]


class Chips:
    """Photographs of `label_chips`."""

    def __init__(self, folder: Path, held_out: bool = False) -> None:
        """Open the complete shards.

        Args:
            folder: Of shards.
            held_out: Take the first shard alone, otherwise all the others.

        Raises:
            ShardError: There is none.
        """
        shards = _complete_shards([folder])
        shards = shards[:1] if held_out else shards[1:]
        if not shards:
            raise ShardError(f'{folder}: one shard only, which is held out; label more chips')
        self._pictures = [shard.pictures for shard in shards]
        self._places = [(s, i) for s, p in enumerate(self._pictures) for i in range(len(p))]
        joined = {
            key: np.concatenate([shard.labels[key] for shard in shards])
            for key in ('uv', 'log_size', 'R_box_head', 'apart_deg')
        }
        sure = joined['apart_deg'] < _SURE_DEG
        heads = Heads(
            joined['uv'], joined['log_size'], joined['R_box_head'], np.ones(len(sure), bool), sure
        )
        wanted = np.where(sure, with_turn(heads).wanted, True)
        self._heads = Heads(heads.uv, heads.log_size, heads.R_box_head, wanted, sure)

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, index: int) -> tuple[Picture, Heads]:
        """See `Source`."""
        shard, row = self._places[index]
        return np.asarray(self._pictures[shard][row]), self._heads[index : index + 1]


class Scenes:
    """Rendered scenes of `training.render scenes`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Open the complete shards.

        Raises:
            ShardError: There is none in a folder.
        """
        self._shards = _complete_shards(folders)
        self._labels = [shard.labels for shard in self._shards]
        self._places = [
            (s, i) for s, shard in enumerate(self._shards) for i in range(len(shard.pictures))
        ]

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, index: int) -> tuple[Picture, Heads]:
        """See `Source`."""
        shard, row = self._places[index]
        picture = np.asarray(self._shards[shard].pictures[row])
        labels = self._labels[shard]
        mine = labels['image_index'] == row
        return picture, heads_of_scene(
            labels['T_cam_head'][mine], labels['visible_fraction'][mine], self.camera(index)
        )

    def camera(self, index: int) -> Camera:
        """Of a picture."""
        shard, row = self._places[index]
        height, width = self._shards[shard].pictures.shape[1:3]
        labels = self._labels[shard]
        return Camera.from_K(labels['K'][row], width, height, labels['dist'][row])

    def poses(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """T_cam_head (J, 4, 4) and visible fractions (J,) of a picture."""
        shard, row = self._places[index]
        labels = self._labels[shard]
        mine = labels['image_index'] == row
        return labels['T_cam_head'][mine], labels['visible_fraction'][mine]


def heads_of_scene(
    T_cam_head: NDArray[np.float64], visible_fraction: NDArray[np.floating], camera: Camera
) -> Heads:
    """The heads of a picture of any camera; those seen from behind are background."""
    cells, seen = cells_of_poses(T_cam_head, camera)
    heads = with_turn(
        Heads(
            cells.uv,
            cells.log_size,
            rotations.from_columns(cells.columns).reshape(-1, 3, 3),
            visible_fraction >= VISIBLE,
            np.ones(len(seen), bool),
        )
    )
    return heads[seen & (heads.turn_deg < ABSENT_FROM_DEG)]


def panoramas(assets: Path, held_out: bool = False) -> list[Path]:
    """Environment maps of the training, or those that no training shows.

    Raises:
        MissingAssetError: There is none.
    """
    folder = assets / 'hdri'
    paths = sorted(folder.glob('*.hdr'))
    chosen = [path for path in paths if (path.stem in HELD_OUT['hdri']) == held_out]
    if not chosen:
        split = 'test' if held_out else 'training'
        raise MissingAssetError(folder, f'no .hdr file of the {split} split in it', HDRI_SOURCE)
    return chosen


class Backgrounds:
    """Views of environment maps, walls, patterns, lines and letters: no heads."""

    def __init__(self, panoramas: Sequence[Path]) -> None:
        """Load equirectangular .hdr maps, at least one."""
        self._panoramas = []
        for path in panoramas:
            radiance = load_panorama(path)
            radiance = radiance / radiance.mean()
            shown = np.clip(radiance / (1 + radiance / _SKY_LIMIT), 0, 1) ** (1 / 2.2)
            self._panoramas.append(np.rint(255 * shown).astype(np.uint8))

    def draw(self, side: int, rng: Rng) -> Picture:
        """A square picture."""
        if rng.random() < 0.65:
            return self._view(side, rng)
        enlarged = cv2.resize(made_up(rng), (side, side), interpolation=cv2.INTER_CUBIC)
        picture = np.asarray(enlarged, np.uint8)
        return _scribbled(picture, rng) if rng.random() < 0.5 else picture

    def _view(self, side: int, rng: Rng) -> Picture:
        panorama = self._panoramas[rng.integers(len(self._panoramas))]
        height, width = panorama.shape[:2]
        line = np.linspace(-1, 1, side) * np.tan(0.5 * np.radians(rng.uniform(25, 100)))
        rays = np.stack([*np.meshgrid(line, line), np.ones((side, side))], -1)
        yaw, pitch, roll = rng.uniform(-np.pi, np.pi), rng.normal(0, 0.4), rng.normal(0, 0.3)
        R = rotations.exp([0, yaw, 0]) @ rotations.exp([pitch, 0, 0]) @ rotations.exp([0, 0, roll])
        x, y, z = np.moveaxis(rays @ R.T, -1, 0)
        longitude = np.arctan2(x, z) / (2 * np.pi) + 0.5
        latitude = np.arctan2(y, np.hypot(x, z)) / np.pi + 0.5
        return cv2.remap(
            panorama,
            (longitude * (width - 1)).astype(np.float32),
            (latitude * (height - 1)).astype(np.float32),
            cv2.INTER_LINEAR,
        )


def _scribbled(picture: Picture, rng: Rng) -> Picture:
    """With letters, lines, discs and grids."""
    picture = np.ascontiguousarray(picture)
    side = picture.shape[0]
    for _ in range(rng.integers(2, 14)):
        colour = tuple(float(c) for c in rng.uniform(0, 255, 3))
        a, b = (tuple(int(x) for x in rng.integers(0, side, 2)) for _ in 'ab')
        kind, width = rng.integers(4), int(rng.integers(1, 5))
        if kind == 0:
            letters = ''.join(chr(c) for c in rng.integers(33, 127, rng.integers(1, 9)))
            cv2.putText(
                picture, letters, a, int(rng.integers(8)), rng.uniform(0.4, 3), colour, width
            )
        elif kind == 1:
            cv2.line(picture, a, b, colour, width)
        elif kind == 2:
            axes = tuple(int(x) for x in rng.integers(3, side // 3, 2))
            cv2.ellipse(picture, a, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            step = int(rng.integers(4, 40))
            for x in range(0, side, step):
                cv2.line(picture, (x, 0), (x, side), colour, 1)
    return picture


def scrambled(picture: Picture, rng: Rng) -> Picture:
    """The picture's tiles in another order, each turned: parts of faces that are no face."""
    count = int(rng.integers(3, 6))
    side = min(picture.shape[:2]) // count
    tiles = [
        np.rot90(picture[i * side : (i + 1) * side, j * side : (j + 1) * side], rng.integers(4))
        for i in range(count)
        for j in range(count)
    ]
    order = rng.permutation(len(tiles))
    rows = [
        np.concatenate([tiles[k] for k in order[i * count : (i + 1) * count]], 1)
        for i in range(count)
    ]
    return np.concatenate(rows)
