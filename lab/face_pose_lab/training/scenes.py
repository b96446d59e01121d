# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whole images with several heads: batches from shards, and their augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.training.batches import Batch, complete_shards
from face_pose_lab.training.shards import Shard
from face_pose_ros.faces.single_shot import SIZE_MULTIPLE


@dataclass(frozen=True)
class SceneBatch(Batch):
    """B pictures of one size with J heads in all; plumb_bob lenses."""

    pictures: Tensor  # (B, 3, H, W) uint8, or float in [0, 1], RGB
    f: Tensor  # (B, 2) float64 px
    c: Tensor  # (B, 2) float64 px
    dist: Tensor  # (B, 12) float64
    range_max: Tensor  # (B,) float64, see `Camera`
    image_index: Tensor  # (J,) int64, which picture shows the head
    T_cam_head: Tensor  # (J, 4, 4) float64
    visible_fraction: Tensor  # (J,) float32

    def cameras(self) -> Camera:
        """Of each picture, a batch (B,)."""
        height, width = self.pictures.shape[-2:]
        return Camera(
            self.f, self.c, self.dist, self.range_max, 'plumb_bob', width=width, height=height
        )

    def camera_list(self) -> list[Camera]:
        """Of each picture, one by one."""
        batch = self.cameras()
        return [
            replace(batch, f=f, c=c, dist=dist, range_max=range_max)
            for f, c, dist, range_max in zip(
                self.f, self.c, self.dist, self.range_max, strict=True
            )
        ]

    def cameras_of_heads(self) -> Camera:
        """Of each head's picture, a batch (J,)."""
        i, of_pictures = self.image_index, self.cameras()
        return replace(
            of_pictures, f=self.f[i], c=self.c[i], dist=self.dist[i], range_max=self.range_max[i]
        )

    @classmethod
    def from_labels(
        cls, pictures: NDArray[np.uint8], rows: NDArray[np.int64], labels: dict[str, Any]
    ) -> SceneBatch:
        """Of pictures (B, H, W, 3), which are rows (B,) of a shard with these labels."""
        height, width = pictures.shape[1:3]
        cameras = [
            Camera.from_K(labels['K'][row], width, height, labels['dist'][row]) for row in rows
        ]
        position = {int(row): i for i, row in enumerate(rows)}
        heads = np.flatnonzero(np.isin(labels['image_index'], rows))
        index = [position[int(row)] for row in labels['image_index'][heads]]
        return cls(
            pictures=torch.from_numpy(pictures).permute(0, 3, 1, 2),
            f=torch.stack([c.f for c in cameras]),
            c=torch.stack([c.c for c in cameras]),
            dist=torch.stack([c.dist for c in cameras]),
            range_max=torch.stack([c.range_max for c in cameras]),
            image_index=torch.tensor(index, dtype=torch.int64),
            T_cam_head=torch.from_numpy(labels['T_cam_head'][heads]).double().view(-1, 4, 4),
            visible_fraction=torch.from_numpy(labels['visible_fraction'][heads]).float(),
        )


# Images zoomed by less are halved first, against aliasing.
_HALVED_BELOW = 0.7
_LABELS = ('K', 'dist', 'image_index', 'T_cam_head', 'visible_fraction')


class SceneSource:
    """The pictures of all complete shards of some folders; a batch is of one shard."""

    def __init__(self, folders: Sequence[str], limit: int | None = None) -> None:
        """Open the complete shards; later ones are not used.

        Args:
            folders: Of shards.
            limit: Take only the first so many pictures of each folder.

        Raises:
            DataError: No complete shard in a folder.
        """
        self._shards: list[tuple[Shard, dict[str, Any], int]] = []
        for shard, count in complete_shards(folders, limit):
            labels = {name: np.asarray(shard.labels[name]) for name in _LABELS}
            self._shards.append((shard, labels, count))

    def __len__(self) -> int:
        return sum(count for _, _, count in self._shards)

    def shuffled(self, number: int, count: int, seed: int) -> SceneBatch:
        """The n-th batch of `count` pictures of an endless sequence of shuffled epochs."""
        batches = [(s, i) for s, (_, _, n) in enumerate(self._shards) for i in range(n // count)]
        if not batches:
            raise DataError(f'no shard has the {count} pictures of a batch')
        epoch, position = divmod(number, len(batches))
        shard, part = batches[
            np.random.default_rng((seed, epoch)).permutation(len(batches))[position]
        ]
        rows = np.random.default_rng((seed, epoch, shard)).permutation(self._shards[shard][2])
        return self._batch(shard, rows[part * count : (part + 1) * count])

    def in_order(self, count: int) -> Iterator[SceneBatch]:
        """All images in batches of at most `count`, read lazily."""
        for s, (_, _, n) in enumerate(self._shards):
            for first in range(0, n, count):
                yield self._batch(s, np.arange(first, min(first + count, n)))

    def _batch(self, shard: int, rows: NDArray[np.int64]) -> SceneBatch:
        pictures, labels, _ = self._shards[shard]
        return SceneBatch.from_labels(np.asarray(pictures.pictures[rows]), rows, labels)


def moved_scenes(
    batch: SceneBatch,
    flip: Tensor,
    scale: Tensor,
    shift: Tensor,
    size: tuple[int, int] | None = None,
) -> SceneBatch:
    """Pictures mirrored, zoomed and shifted about their middle, cut.

    Args:
        batch: B pictures.
        flip: (B,) bool.
        scale: (B,) 1 keeps pixels as large as they are.
        shift: (B, 2) of the new pictures' sides.
        size: Height and width of the new pictures; the old ones cut to multiples of 32 px.
    """
    height, width = batch.pictures.shape[-2:]
    if size is None:
        size = (height // SIZE_MULTIPLE * SIZE_MULTIPLE, width // SIZE_MULTIPLE * SIZE_MULTIPLE)
    if min(size) == 0:
        raise DataError(f'pictures of {width} x {height} px: at least {SIZE_MULTIPLE} expected')
    old = batch.f.new_tensor([width, height])
    new = batch.f.new_tensor([size[1], size[0]])
    sign = torch.where(flip, -1.0, 1.0).double()
    zoom = scale.double()[:, None] * torch.stack([sign, torch.ones_like(sign)], -1)
    # uv_new = zoom (uv - middle) + new middle + shift
    offset = 0.5 * (new - 1) + shift * new
    linear = torch.diag_embed(new / (zoom * old))
    moved = -(shift * new) / zoom * 2 / old
    grid = F.affine_grid(
        torch.cat([linear, moved[..., None]], -1).float(),
        [len(zoom), 3, *size],
        align_corners=False,
    )
    whole = batch.pictures.float() / 255
    pictures = F.grid_sample(whole, grid, 'bilinear', 'zeros', align_corners=False)
    small = (scale < _HALVED_BELOW).nonzero()[:, 0]
    if len(small) and height % 2 == width % 2 == 0:
        halved = F.avg_pool2d(whole[small], 2)  # the same outer borders, so the same grid
        pictures[small] = F.grid_sample(halved, grid[small], 'bilinear', 'zeros', False)
    # Mirror the camera's x and the head's y: two reflections make a rotation again.
    of_head = sign[batch.image_index]
    one = torch.ones_like(of_head)
    camera_x, head_y = torch.stack([of_head, one, one], -1), torch.stack([one, of_head, one], -1)
    T = batch.T_cam_head.clone()
    T[:, :3, :3] = camera_x[:, :, None] * T[:, :3, :3] * head_y[:, None]
    T[:, :3, 3] = camera_x * T[:, :3, 3]
    dist = batch.dist.clone()
    dist[:, 3] *= sign  # p2 is the tangential distortion along x
    return replace(
        batch,
        pictures=pictures,
        f=batch.f * scale.double()[:, None],
        c=zoom * (batch.c - 0.5 * (old - 1)) + offset,
        dist=dist,
        T_cam_head=T,
    )
