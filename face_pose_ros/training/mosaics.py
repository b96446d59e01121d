"""Mosaics: pictures made of crops, so that a step of the detector sees many heads.

A scene shows one or two heads to a window, a mosaic up to 25, each of another person. What a
cell says of a head (`CellPoses`) is told in the camera that looks at the head, so it is the same
wherever the crop is laid and whatever the focal length of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_ros.faces.single_shot import cells_of_poses, poses_in_camera
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.training.augment import AugmentOptions, moved_crops, photometric
from face_pose_ros.training.batches import CropBatch, Crops
from face_pose_ros.training.scenes import SceneBatch

# Of the keypoints: a head of which less is visible is no face that must be found.
_MIN_VISIBLE = 0.14


@dataclass(frozen=True)
class MosaicOptions:
    """How often, and of how many crops."""

    share: float = 0.0  # of the micro-batches; the others are of scenes
    most_per_side: int = 5  # a mosaic has 1 x 1 to so many crops, equally often

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f'share must be in [0, 1], got {self.share}')
        if self.most_per_side < 1:
            raise ValueError(f'most_per_side must be at least 1, got {self.most_per_side}')


@dataclass(frozen=True)
class MosaicBatch:
    """B pictures to be laid out of crops."""

    crops: CropBatch  # of the first picture first, row by row
    per_side: Tensor  # (B,) int64, picture b has per_side^2 of them

    def to(self, device: torch.device | str) -> MosaicBatch:
        """The same on a device."""
        return MosaicBatch(self.crops.to(device), self.per_side.to(device))


class MosaicSource:
    """Mosaics of any of some crops."""

    def __init__(self, crops: Crops, most_per_side: int) -> None:
        self._crops = crops
        self._most_per_side = most_per_side

    def batch(self, number: int, count: int, seed: int) -> MosaicBatch:
        """The n-th batch of `count` pictures, of crops drawn by (seed, number) alone."""
        rng = np.random.default_rng((seed, number, 2))
        per_side = rng.integers(1, self._most_per_side + 1, count)
        indices = rng.integers(len(self._crops), size=int((per_side**2).sum()))
        return MosaicBatch(self._crops.batch(indices), torch.from_numpy(per_side))


def lay_mosaics(
    batch: MosaicBatch,
    augment: AugmentOptions,
    side_px: int,
    generator: torch.Generator,
) -> SceneBatch:
    """Pictures of side_px, the rest of a division black, with the cameras and poses of all heads.

    Args:
        batch: B pictures.
        augment: How the crops are moved and how the pictures look.
        side_px: Of the pictures.
        generator: On the batch's device.
    """
    count, device = len(batch.per_side), batch.crops.uv.device
    pictures = torch.zeros(count, 3, side_px, side_px, device=device)
    ends = batch.per_side.square().cumsum(0)
    camera = _camera(side_px).to(device)
    # The keypoints only tell how much of a head is visible: which is which plays no part.
    same = torch.arange(batch.crops.uv.shape[1], device=device)
    index, poses, visible = [], [], []
    for n in batch.per_side.unique().tolist():
        which = (batch.per_side == n).nonzero()[:, 0]
        rows = (ends[which, None] - n * n + torch.arange(n * n, device=device)).flatten()
        tile_px = side_px // n
        crops = _shrunk(batch.crops[rows], tile_px)
        crops = moved_crops(crops, same, augment, tile_px, generator)
        tiles = crops.pictures.unflatten(0, (-1, n, n)).permute(0, 3, 1, 4, 2, 5)
        pictures[which, :, : n * tile_px, : n * tile_px] = tiles.flatten(4).flatten(2, 3)
        place = torch.arange(n * n, device=device).repeat(len(which))
        corner = tile_px * torch.stack([place % n, place // n], -1)
        cells, _ = cells_of_poses(crops.T_crop_head[:, None], _cameras_of(crops, camera))
        T, _ = poses_in_camera(
            cells._replace(
                uv=cells.uv[:, 0] + corner,
                log_size=cells.log_size[:, 0],
                columns=cells.columns[:, 0],
            ),
            camera,
        )
        index.append(which.repeat_interleave(n * n))
        poses.append(T)
        visible.append((crops.visible.float().mean(-1) >= _MIN_VISIBLE).float())
    return SceneBatch(
        pictures=photometric(pictures, augment, generator),
        f=camera.f.expand(count, -1),
        c=camera.c.expand(count, -1),
        dist=camera.dist.expand(count, -1),
        range_max=camera.range_max.expand(count),
        image_index=torch.cat(index),
        T_cam_head=torch.cat(poses),
        visible_fraction=torch.cat(visible),
    )


@cache
def _camera(side_px: int) -> Camera:
    """The pinhole of a mosaic; any one does."""
    middle = 0.5 * (side_px - 1)
    K = [side_px, 0, middle, 0, side_px, middle, 0, 0, 1]
    return Camera.from_K(K, side_px, side_px)


def _cameras_of(crops: CropBatch, pinhole: Camera) -> Camera:
    return replace(pinhole, f=crops.f[:, None].expand(-1, 2), c=crops.c)


def _shrunk(crops: CropBatch, size_px: int) -> CropBatch:
    """Halved until they are less than twice as large, lest they are aliased."""
    pictures, f, c = crops.pictures.float(), crops.f, crops.c
    uv, head_size_px = crops.uv, crops.head_size_px
    while pictures.shape[-1] >= 2 * size_px and pictures.shape[-1] % 2 == 0:
        pictures = F.avg_pool2d(pictures, 2)
        f, c, head_size_px = 0.5 * f, 0.5 * (c - 0.5), 0.5 * head_size_px
        uv = 0.5 * (uv - 0.5)
    return replace(crops, pictures=pictures, f=f, c=c, uv=uv, head_size_px=head_size_px)
