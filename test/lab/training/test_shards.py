# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Shards go to disk and come back; what is not complete or not the same run is noticed."""

import numpy as np
import pytest
from face_pose_lab.training.shards import (
    Shard,
    ShardError,
    open_shards,
    read_manifest,
    shard_folder,
    write_manifest,
    write_shard,
)

MANIFEST = {'version': 1, 'seed': 3, 'count': 10, 'commit': 'a', 'names': ('x', 'y')}


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)


def test_round_trip(tmp_path, pictures):
    write_manifest(tmp_path, MANIFEST)
    labels = {'uv': np.float32([[1, 2], [3, 4]]), 'visible': np.array([True, False])}
    write_shard(shard_folder(tmp_path, 2), pictures, labels)
    (shard,) = open_shards(tmp_path)
    np.testing.assert_array_equal(shard.pictures, pictures)
    assert not shard.pictures.flags.owndata  # mapped, not read
    assert set(shard.labels) == set(labels)
    for name, values in labels.items():
        np.testing.assert_array_equal(shard.labels[name], values)
        assert shard.labels[name].dtype == values.dtype


def test_incomplete_shards_are_not_opened(tmp_path, pictures):
    write_manifest(tmp_path, MANIFEST)
    folder = shard_folder(tmp_path, 0)
    write_shard(folder, pictures, {'a': np.zeros(4)})
    (folder / 'labels.npz').unlink()
    assert not Shard(folder).is_complete
    assert open_shards(tmp_path) == []


def test_a_folder_without_a_manifest_is_an_error(tmp_path):
    with pytest.raises(ShardError, match=r'manifest\.json: no such file'):
        open_shards(tmp_path)


def test_a_run_resumes_only_in_its_own_folder(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    write_manifest(tmp_path, {**MANIFEST, 'count': 20, 'commit': 'b'})
    assert read_manifest(tmp_path)['count'] == 20
    with pytest.raises(ShardError, match='seed is 3 there and 4 now'):
        write_manifest(tmp_path, {**MANIFEST, 'seed': 4})
