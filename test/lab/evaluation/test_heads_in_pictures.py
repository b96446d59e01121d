# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The table of errors by turn and size."""

import json

import numpy as np
import pytest
from face_pose_lab.evaluation import heads_in_pictures as module
from face_pose_lab.training.shards import write_shard
from helpers.faces import make_face
from helpers.heads import R_CAM_FRONTAL

from face_pose_ros.geometry import rotations

K = [[600.0, 0, 159.5], [0, 600, 119.5], [0, 0, 1]]
TURNS_DEG = (5.0, 35.0, 140.0, 70.0)


def truth(index):
    turn = rotations.exp(np.deg2rad([0.0, 0.0, TURNS_DEG[index]]))
    return rotations.from_rt(R_CAM_FRONTAL @ turn, np.array([0.0, 0.0, 1.0]))


@pytest.fixture
def scenes(tmp_path):
    """Four heads; the third is seen from behind, and the last one hidden."""
    pictures = np.zeros((4, 240, 320, 3), np.uint8)
    pictures[:, 0, 0, 0] = range(4)  # tells the oracle which one it is
    labels = {
        'image_index': np.arange(4),
        'visible_fraction': np.array([1.0, 0.9, 1.0, 0.5]),
        'T_cam_head': np.stack([truth(i) for i in range(4)]),
        'K': np.tile(np.array(K), (4, 1, 1)),
        'dist': np.zeros((4, 5)),
    }
    write_shard(tmp_path / '00000', pictures, labels)
    (tmp_path / 'manifest.json').write_text('{}')
    return tmp_path


class Oracle:
    """Knows the pose but for 4 deg, and misses what is turned."""

    def __init__(self, device):
        assert device == 'cpu'

    def estimate(self, picture, camera, boxes):
        index = int(picture[0, 0, 0])
        assert boxes.shape == (1, 4)
        if TURNS_DEG[index] > 30:
            return []
        off = np.deg2rad([0.0, 4.0, 0.0])
        T = truth(index)
        T[:3, :3] = rotations.exp(off) @ T[:3, :3]
        return [make_face(camera, T)]


def test_errors_are_counted_by_turn(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, 'FacePoseEstimator', Oracle)
    out = tmp_path / 'table.json'
    module.main(['--scenes', str(scenes), '--json', str(out)])
    table = json.loads(out.read_text())
    assert (table['0-100']['heads'], table['0-100']['found']) == (2, 1)
    assert table['0-15']['rotation_deg'] == pytest.approx(4.0)
    assert table['30-40'] == table['30-40'] | {'heads': 1, 'found': 0}
    assert capsys.readouterr().out.splitlines()[-1].startswith('120px')


def test_the_missing_asset_is_named(tmp_path, capsys):
    for args, part in (
        (['--scenes', str(tmp_path)], 'manifest.json: no such file'),
        (['--heads', str(tmp_path / 'heads.npz')], '--heads needs --pictures'),
    ):
        with pytest.raises(SystemExit):
            module.main(args)
        assert part in capsys.readouterr().err
