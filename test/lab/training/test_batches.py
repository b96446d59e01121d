# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Batches from shards on disk: the right rows, in an order that the seed decides."""

import numpy as np
import pytest
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.batches import CropSource, epoch_indices
from face_pose_lab.training.shards import write_manifest, write_shard


def crops(first: int, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pictures and labels that hold their own number."""
    numbers = np.arange(first, first + count)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, 2, 3] = numbers
    labels = {
        'K_crop': np.tile(np.diag([100.0, 100, 1]), (count, 1, 1)),
        'T_crop_head': T,
        'uv': np.zeros((count, 5, 2), np.float32) + numbers[:, None, None],
        'xyz_head': np.zeros((count, 5, 3), np.float32),
        'visible': np.ones((count, 5), bool),
        'head_size_px': numbers.astype(np.float32),
    }
    pictures = np.zeros((count, 8, 8, 3), np.uint8) + numbers[:, None, None, None]
    return pictures.astype(np.uint8), labels


def write_crops(folder, counts: list[int]) -> None:
    write_manifest(folder, {'kind': 'crops'})
    for i, count in enumerate(counts):
        write_shard(folder / f'{i:05d}', *crops(sum(counts[:i]), count))


def test_rows_have_the_requested_order(tmp_path):
    write_crops(tmp_path, [3, 4, 2])
    source = CropSource([str(tmp_path)])
    assert len(source) == 9
    wanted = np.array([8, 0, 3, 2, 6, 3])
    batch = source.batch(wanted)
    assert batch.pictures[:, 0, 0, 0].tolist() == wanted.tolist()
    assert batch.uv[:, 0, 0].tolist() == wanted.tolist()
    assert batch.T_crop_head[:, 2, 3].tolist() == wanted.tolist()
    assert batch.pictures.shape == (6, 3, 8, 8)


def test_a_limit_counts_for_each_folder(tmp_path):
    write_crops(tmp_path / 'a', [3, 4])
    write_crops(tmp_path / 'b', [2])
    source = CropSource([str(tmp_path / 'a'), str(tmp_path / 'b')], limit=5)
    shown = source.batch(np.arange(len(source))).pictures[:, 0, 0, 0]
    assert shown.tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_shards_without_labels_are_not_complete(tmp_path):
    write_crops(tmp_path, [3, 4])
    (tmp_path / '00000' / 'labels.npz').unlink()
    assert len(CropSource([str(tmp_path)])) == 4
    (tmp_path / '00001' / 'labels.npz').unlink()
    with pytest.raises(DataError, match='no complete shard'):
        CropSource([str(tmp_path)])


def test_every_epoch_shows_every_image_once():
    order = epoch_indices(0, 30, 10, seed=3)
    assert all(sorted(order[i : i + 10]) == list(range(10)) for i in (0, 10, 20))
    assert list(order[:10]) != list(order[10:20])
    # Any part of the sequence is the same part of it, and another seed another sequence.
    assert list(epoch_indices(7, 9, 10, seed=3)) == list(order[7:16])
    assert list(epoch_indices(0, 10, 10, seed=4)) != list(order[:10])
