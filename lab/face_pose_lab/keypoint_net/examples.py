# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled crops of heads, rendered ones and photographs, in one form."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.training.shards import Shard, open_shards
from face_pose_ros.keypoints import semantic

Array = NDArray[np.float32]

# From the first to the second angle to the camera [deg] labels change from Face Mesh to hourglass.
_MESH_UP_TO_DEG, _HEAD_FROM_DEG = 35.0, 60.0
_MESH_ALONE_UP_TO_DEG = 45.0  # where the hourglass did not run or its measurements differ
# Largest distance between the two measurements of a teacher, divided by the side of the face.
_MESH_APART, _HEAD_APART = 0.035, 0.08
_SELF_APART = 0.03  # the same for the network's own measurements and their mean
_DISAGREE_DEG = 25.0  # a picture has no label if the teachers' rotations differ by more
# Ears and skull of a photograph are not measured: they come from the fitted model.
_UNSEEN_WEIGHT = 0.3


@dataclass(frozen=True)
class Labels:
    """Labels of N pictures with K keypoints."""

    uv: Array  # (N, K, 2) px of the picture
    weight: Array  # (N, K) in [0, 1], weight of the keypoint in the losses
    R_crop_head: Array  # (N, 3, 3), in the picture's camera
    focal_px: Array  # (N,); the principal point is the centre

    def __len__(self) -> int:
        return len(self.focal_px)

    def __getitem__(self, rows: slice | NDArray) -> Labels:
        return Labels(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[Labels]) -> Labels:
        """Concatenate labels."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


class Examples:
    """Pictures (S, S, 3) uint8 RGB by index, and their labels."""

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        places: NDArray[np.int64],
        labels: Labels,
        names: NDArray[np.str_],
    ) -> None:
        """Take pictures of shards, (N, 2) shard and row of each example, labels and names."""
        self.labels = labels
        self.names = names
        self._pictures = pictures
        self._places = places

    @classmethod
    def of(cls, shards: Sequence[Shard], rows: Sequence[NDArray], labels: Labels) -> Examples:
        """Examples from shards, the rows to use of each, and the labels of these rows."""
        places = [np.column_stack([np.full(len(r), s), r]) for s, r in enumerate(rows)]
        names = [s.labels['name'][r] for s, r in zip(shards, rows, strict=True) if _named(s)]
        return cls(
            [s.pictures for s in shards],
            np.concatenate(places).astype(np.int64),
            labels,
            np.concatenate(names) if names else np.zeros(0, np.str_),
        )

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """The picture with this index."""
        shard, row = self._places[index]
        return np.asarray(self._pictures[shard][row])

    def part(self, first: int, end: int) -> Examples:
        """The examples from first to end - 1."""
        rows = slice(first, end)
        return Examples(self._pictures, self._places[rows], self.labels[rows], self.names[rows])

    def without(self, names: Collection[str]) -> Examples:
        """The examples whose names are not among these."""
        kept = ~np.isin(self.names, list(names))
        return Examples(self._pictures, self._places[kept], self.labels[kept], self.names[kept])


def _named(shard: Shard) -> bool:
    """Photographs have names, rendered pictures have none."""
    return 'name' in shard.labels


def rendered(folders: Sequence[Path]) -> Examples:
    """Rendered crops, with exact labels."""
    shards = [shard for folder in folders for shard in open_shards(folder)]
    labels = [_exact(shard.labels) for shard in shards]
    return Examples.of(shards, [np.arange(len(each)) for each in labels], Labels.join(labels))


def _exact(stored: dict[str, NDArray]) -> Labels:
    """Labels of a shard, unchanged."""
    return Labels(
        uv=stored['uv'].astype(np.float32),
        weight=np.ones(stored['uv'].shape[:2], np.float32),
        R_crop_head=stored['T_crop_head'][:, :3, :3].astype(np.float32),
        focal_px=stored['K_crop'][:, 0, 0].astype(np.float32),
    )


def photographs(folders: Sequence[Path], left_out: frozenset[str] = frozenset()) -> Examples:
    """Photographs with reliable labels of `label_photographs` or `self_label`.

    Those with names in `left_out` are excluded.
    """
    shards, rows, labels = [], [], []
    for folder in folders:
        for shard in open_shards(folder):
            by_itself = 'apart' in shard.labels
            chosen, of_chosen = (self_labels if by_itself else teacher_labels)(shard.labels)
            known = ~np.isin(shard.labels['name'][chosen], list(left_out))
            shards.append(shard)
            rows.append(chosen[known])
            labels.append(Labels(*(getattr(of_chosen, f.name)[known] for f in fields(Labels))))
    return Examples.of(shards, rows, Labels.join(labels))


def self_labels(stored: dict[str, NDArray]) -> tuple[NDArray[np.int64], Labels]:
    """Rows of the pictures of a `self_label` shard that have a label, and these labels."""
    chosen = np.flatnonzero(stored['apart'] < _SELF_APART)
    return chosen, _exact(stored)[chosen]


def teacher_labels(stored: dict[str, NDArray]) -> tuple[NDArray[np.int64], Labels]:
    """Rows of the pictures of a `label_photographs` shard that have a label, and these labels.

    Face Mesh's labels hold for small angles to the camera, the hourglass's for large ones; in
    between they are averaged.
    """
    turn = turn_from_view_deg(stored)
    share = np.clip((turn - _MESH_UP_TO_DEG) / (_HEAD_FROM_DEG - _MESH_UP_TO_DEG), 0, 1)
    with np.errstate(invalid='ignore'):
        mesh = (stored['mesh_presence'] > 0.5) & (stored['mesh_apart'] < _MESH_APART)
        head = stored['head_apart'] < _HEAD_APART
    mesh &= np.isfinite(stored['mesh_T']).all((1, 2))
    head &= np.isfinite(stored['head_T']).all((1, 2))
    R_mesh, R_head = stored['mesh_T'][:, :3, :3], stored['head_T'][:, :3, :3]
    both = mesh & head
    apart = np.zeros(len(mesh))
    apart[both] = _angles_deg(R_mesh[both], R_head[both])
    use_head = np.where(both, share, np.where(head, 1.0, 0.0))
    right = np.where(mesh, both | (turn < _MESH_ALONE_UP_TO_DEG), head) & (apart < _DISAGREE_DEG)
    chosen = np.flatnonzero(right & (mesh | head))

    w = use_head[chosen, None, None]
    # Mean of Face Mesh's own points, which fit the picture best, and those of the fitted model.
    direct = stored['mesh_direct_uv'][chosen]
    by_mesh = stored['mesh_uv'][chosen]
    by_mesh = np.where(np.isfinite(direct), 0.5 * (direct + by_mesh), by_mesh)
    uv = _blend(by_mesh, stored['head_uv'][chosen], w)
    R = _blend(R_mesh[chosen], R_head[chosen], w)
    U, _, Vt = np.linalg.svd(R)
    weight = np.where(semantic.IS_FACE, 1.0, _UNSEEN_WEIGHT + (1 - _UNSEEN_WEIGHT) * w[:, 0])
    return chosen, Labels(
        uv=uv.astype(np.float32),
        weight=weight.astype(np.float32),
        R_crop_head=(U @ Vt).astype(np.float32),
        focal_px=stored['K_crop'][chosen, 0, 0].astype(np.float32),
    )


def turn_from_view_deg(stored: dict[str, NDArray]) -> NDArray:
    """(N,) [deg] of heads from the camera; by the hourglass where it ran."""
    x = np.where(
        np.isfinite(stored['head_T']).all((1, 2))[:, None],
        stored['head_T'][:, :3, 0],
        stored['mesh_T'][:, :3, 0],
    )
    # The crop's camera points at the face.
    return np.degrees(np.arccos(np.clip(-x[:, 2], -1, 1)))


def _blend(a: NDArray, b: NDArray, share: NDArray) -> NDArray:
    """(1 - share) a + share b; a value with weight 0 may be NaN."""
    return (1 - share) * np.where(share < 1, a, 0.0) + share * np.where(share > 0, b, 0.0)


def _angles_deg(A: NDArray, B: NDArray) -> NDArray:
    if not len(A):
        return np.zeros(0)
    R = A.astype(np.float64).swapaxes(1, 2) @ B.astype(np.float64)
    return np.degrees(Rotation.from_matrix(R).magnitude())
