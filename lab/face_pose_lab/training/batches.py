# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of images from shards, in an order that depends on seed and step only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.shards import Shard, open_shards


@dataclass(frozen=True)
class CropBatch:
    """B crops of one head each; K keypoints."""

    pictures: Tensor  # (B, 3, S, S) uint8 RGB
    uv: Tensor  # (B, K, 2) float32, px of the crop; may lie outside of it; NaN: not known
    visible: Tensor  # (B, K) bool
    xyz_head: Tensor  # (B, K, 3) float64, m, of this person; NaN: not known
    f: Tensor  # (B,) float64, focal length of the crop's camera [px]
    c: Tensor  # (B, 2) float64, its principal point [px]
    T_crop_head: Tensor  # (B, 4, 4) float64
    head_size_px: Tensor  # (B,) float32, of a head of 0.24 m

    def to(self, device: torch.device | str) -> CropBatch:
        """The same on a device."""
        return CropBatch(
            **{name: value.to(device, non_blocking=True) for name, value in vars(self).items()}
        )

    @classmethod
    def from_labels(
        cls, pictures: NDArray[np.uint8], labels: dict[str, NDArray[Any]]
    ) -> CropBatch:
        """A batch from pictures (B, S, S, 3) and the labels of a shard of crops."""
        K = torch.from_numpy(labels['K_crop']).double()
        return cls(
            pictures=torch.from_numpy(pictures).permute(0, 3, 1, 2),
            uv=torch.from_numpy(labels['uv']).float(),
            visible=torch.from_numpy(labels['visible']),
            xyz_head=torch.from_numpy(labels['xyz_head']).double(),
            f=K[:, 0, 0],
            c=K[:, :2, 2],
            T_crop_head=torch.from_numpy(labels['T_crop_head']).double(),
            head_size_px=torch.from_numpy(labels['head_size_px']).float(),
        )


class Crops(Protocol):
    """Labelled crops by index."""

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64]) -> CropBatch:
        """Those of indices (B,), in their order."""


_CROP_LABELS = ('K_crop', 'T_crop_head', 'uv', 'xyz_head', 'visible', 'head_size_px')


class CropSource:
    """The crops of all complete shards of some folders."""

    def __init__(self, folders: Sequence[str], limit: int | None = None) -> None:
        """Open the complete shards; later ones are not used.

        Args:
            folders: Of shards.
            limit: Take only the first so many pictures of each folder.

        Raises:
            DataError: No complete shard in a folder.
        """
        self._shards: list[Shard] = []
        counts: list[int] = []
        for folder in folders:
            shards = open_shards(Path(folder))
            if not shards:
                raise DataError(f'{folder}: no complete shard of pictures')
            ends = np.cumsum([len(shard.pictures) for shard in shards])
            self._shards += shards
            ends = ends if limit is None else ends.clip(max=limit)
            counts += np.diff(ends, prepend=0).tolist()
        self._first = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def batch(self, indices: NDArray[np.int64]) -> CropBatch:
        """The crops of any indices (B,), in their order."""
        of_shard = np.searchsorted(self._first, indices, side='right') - 1
        order = np.argsort(indices, kind='stable')
        pictures, labels = [], []
        for s in np.unique(of_shard):
            rows = indices[order][of_shard[order] == s] - self._first[s]
            shard = self._shards[s]
            pictures.append(np.asarray(shard.pictures[rows]))
            labels.append({name: _labels(shard)[name][rows] for name in _CROP_LABELS})
        back = np.argsort(order, kind='stable')
        return CropBatch.from_labels(
            np.concatenate(pictures)[back],
            {name: np.concatenate([part[name] for part in labels])[back] for name in _CROP_LABELS},
        )


@lru_cache(maxsize=4096)
def _labels(shard: Shard) -> dict[str, NDArray[Any]]:
    """Labels unpacked once: they are small beside the pictures."""
    return {name: np.asarray(shard.labels[name]) for name in _CROP_LABELS}


def epoch_indices(first: int, count: int, pictures: int, seed: int) -> NDArray[np.int64]:
    """Elements first to first + count of an endless sequence of shuffled epochs."""
    positions = np.arange(first, first + count)
    return np.array(
        [_permutation(seed, int(p // pictures), pictures)[p % pictures] for p in positions],
        dtype=np.int64,
    )


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, pictures: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(pictures)
