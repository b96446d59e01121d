# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of all sources with the labels that belong to them."""

import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.head_detector.heads import heads_of_poses
from face_pose_lab.head_detector.sources import (
    Backgrounds,
    Chips,
    Crops,
    Scenes,
    panoramas,
    scrambled,
)
from face_pose_lab.training.shards import ShardError, shard_folder, write_manifest, write_shard
from lab.head_detector.material import numbered, poses, turned, write_crops, write_map

from face_pose_ros.faces.head_cells import cells_of_poses


def test_crops_have_the_labels_of_their_row(tmp_path):
    first = poses(np.stack([turned(0), turned(170), turned(130)]), 0.8)
    second = poses(np.stack([turned(-40), turned(10)]), 1.3)
    all_seen = np.ones((3, 86), bool)
    few_seen = np.zeros((2, 86), bool)
    few_seen[0, :20] = few_seen[1, :5] = True
    write_crops(tmp_path, first, all_seen, 0)
    write_crops(tmp_path, second, few_seen, 1)
    crops = Crops([tmp_path])
    assert len(crops) == 5
    found = [crops.picture(i) for i in range(5)]
    assert [int(picture[0, 0, 0]) for picture, _ in found] == [0, 1, 2, 10, 11]
    # From behind there is no head; from beside the back it is neither head nor background.
    assert [len(heads) for _, heads in found] == [1, 0, 1, 1, 1]
    wanted = [heads.wanted[0] for _, heads in found if len(heads)]
    assert wanted == [True, False, True, False]
    expected = heads_of_poses(
        second[:1].astype(np.float32), np.array([200.0]), np.array([31.5, 31.5]), np.zeros(1, bool)
    )
    np.testing.assert_allclose(found[3][1].uv, expected.uv, atol=1e-4)
    np.testing.assert_allclose(found[3][1].R_box_head, expected.R_box_head, atol=1e-6)


def test_turned_photographs_do_not_say_what_is_visible(tmp_path):
    write_crops(tmp_path, poses(turned(60)[None]), None)
    _, heads = Crops([tmp_path]).picture(0)
    assert heads.wanted.tolist() == [True]


def write_chips(folder, shard, apart_deg, turn_deg):
    count = len(apart_deg)
    labels = {
        'uv': np.tile([110.0, 100.0], (count, 1)),
        'log_size': np.full(count, np.log(150)),
        'R_box_head': np.stack([turned(angle) for angle in turn_deg]),
        'apart_deg': np.array(apart_deg),
    }
    write_manifest(folder, {'source': 'none'})
    write_shard(shard_folder(folder, shard), numbered(count, 224, 224, 10 * shard), labels)


def test_chips_without_a_sure_pose_are_heads_all_the_same(tmp_path):
    write_chips(tmp_path, 0, [1.0], [0])
    write_chips(tmp_path, 1, [3.0, np.inf, 2.0, 20.0], [30, 0, 130, 130])
    chips = Chips(tmp_path)
    heads = [chips.picture(i)[1] for i in range(len(chips))]
    assert [bool(h.posed[0]) for h in heads] == [True, False, True, False]
    assert [bool(h.wanted[0]) for h in heads] == [True, True, False, True]
    assert int(chips.picture(2)[0][0, 0, 0]) == 12
    held_out = Chips(tmp_path, held_out=True)
    assert len(held_out) == 1
    assert int(held_out.picture(0)[0][0, 0, 0]) == 0


def test_scenes_have_the_heads_of_their_picture(tmp_path):
    T = poses(np.stack([turned(0), turned(20), turned(180), turned(-30), turned(5)]), 1.1)
    T[:, 0, 3] = [-0.2, 0.1, 0.3, 0.0, 0.25]
    K = np.tile([[150.0, 0, 79.5], [0, 155, 50.0], [0, 0, 1]], (3, 1, 1))
    dist = np.tile([-0.1, 0.02, 0.001, -0.002, 0.0], (3, 1))
    labels = {
        'K': K,
        'dist': dist,
        'image_index': np.array([0, 2, 2, 2, 2]),
        'T_cam_head': T,
        'visible_fraction': np.array([1.0, 0.9, 1.0, 0.2, 0.31], np.float32),
    }
    write_manifest(tmp_path, {'kind': 'scenes'})
    write_shard(shard_folder(tmp_path, 0), numbered(3, 96, 160), labels)
    scenes = Scenes([tmp_path])
    counts = [len(scenes.picture(i)[1]) for i in range(len(scenes))]
    assert counts == [1, 0, 3]  # the one from behind is background
    picture, heads = scenes.picture(2)
    assert int(picture[0, 0, 0]) == 2
    assert heads.wanted.tolist() == [True, False, True]
    expected, _ = cells_of_poses(T[[1, 3, 4]], scenes.camera(2))
    np.testing.assert_allclose(heads.uv, expected.uv)
    np.testing.assert_array_equal(scenes.camera(2).lens.dist[:4], dist[2, :4])
    np.testing.assert_array_equal(scenes.poses(0)[0], T[:1])


def test_folders_without_a_complete_shard_are_named(tmp_path):
    write_manifest(tmp_path, {'kind': 'none'})
    for source in (lambda: Crops([tmp_path]), lambda: Scenes([tmp_path]), lambda: Chips(tmp_path)):
        with pytest.raises(ShardError, match=f'{tmp_path}: no complete shard'):
            source()
    write_chips(tmp_path / 'chips', 0, [1.0], [0])
    with pytest.raises(ShardError, match='one shard only, which is held out'):
        Chips(tmp_path / 'chips')


def test_backgrounds_are_views_the_right_way_up(tmp_path, rng):
    radiance = np.ones((64, 128, 3), np.float32)
    radiance[32:] = 0.01  # the ground
    write_map(tmp_path / 'hdri' / 'street.hdr', radiance)
    write_map(tmp_path / 'hdri' / 'park.hdr', radiance)
    assert [path.stem for path in panoramas(tmp_path)] == ['street']
    assert [path.stem for path in panoramas(tmp_path, held_out=True)] == ['park']
    backgrounds = Backgrounds(panoramas(tmp_path))
    views = np.stack([backgrounds._view(24, rng) for _ in range(30)]).astype(float)
    assert (views[:, 0].mean((1, 2)) >= views[:, -1].mean((1, 2))).mean() > 0.9
    pictures = [backgrounds.draw(24, np.random.default_rng(seed)) for seed in (*range(12), 3)]
    assert all(p.shape == (24, 24, 3) and p.dtype == np.uint8 for p in pictures)
    np.testing.assert_array_equal(pictures[3], pictures[12])
    assert len({p.tobytes() for p in pictures}) == 12


def test_scrambled_pictures_consist_of_the_same_tiles(rng):
    picture = rng.integers(0, 255, (60, 60, 3), dtype=np.uint8)  # 3, 4 and 5 divide 60
    other = scrambled(picture, rng)
    assert other.shape == picture.shape
    assert not np.array_equal(other, picture)
    np.testing.assert_array_equal(np.sort(other.ravel()), np.sort(picture.ravel()))
