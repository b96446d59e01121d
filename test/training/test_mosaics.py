"""Mosaics of crops: labels fit the pictures, and every head counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training.blobs import POINTS, BlobHeads, BlobScenes

from face_pose_ros.evaluation.data_error import DataError
from face_pose_ros.faces.single_shot import cells_of_poses
from face_pose_ros.geometry import se3
from face_pose_ros.training.augment import AugmentOptions
from face_pose_ros.training.config import ConfigError, config_from_dict
from face_pose_ros.training.mosaics import (
    MosaicBatch,
    MosaicOptions,
    MosaicSource,
    lay_mosaics,
)
from face_pose_ros.training.tasks import SingleShotTask

PLAIN = AugmentOptions(**dict.fromkeys(vars(AugmentOptions()), 0.0))
MOVED = replace(PLAIN, flip=0.5, roll_deg=10.0, log_scale=0.1, shift=0.02)
SIDE_PX = 192


def mosaics(generator, augment=MOVED, per_side=(1, 2, 3)):
    per_side = torch.tensor(per_side)
    crops = BlobHeads(100, 128).batch(np.arange(int(per_side.square().sum())))
    return crops, lay_mosaics(MosaicBatch(crops, per_side), augment, SIDE_PX, generator)


def test_heads_lie_where_their_poses_say(generator):
    """A bright blob is found where the mosaic's camera sees each point of each head."""
    _, seen = mosaics(generator)
    assert seen.pictures.shape == (3, 3, SIDE_PX, SIDE_PX)
    assert seen.image_index.tolist() == [0, *4 * [1], *9 * [2]]
    uv = seen.cameras_of_heads().project(se3.apply(seen.T_cam_head, POINTS)).uv
    grid = (uv.float() + 0.5) / (SIDE_PX / 2) - 1
    bright = torch.nn.functional.grid_sample(
        seen.pictures[seen.image_index], grid[:, None], align_corners=False
    ).amax(1)[:, 0]
    inside = (grid.abs() < 0.98).all(-1)
    assert inside.float().mean() > 0.9
    assert bright[inside].median() > 0.8
    # A few pixels beside it there is none.
    beside = torch.nn.functional.grid_sample(
        seen.pictures[seen.image_index], grid[:, None] + 0.08, align_corners=False
    ).amax(1)[:, 0]
    assert beside[inside].median() < 0.6


def test_a_cell_is_told_the_same_of_a_head_as_in_its_crop(generator):
    crops, seen = mosaics(generator, PLAIN, (2,))
    (cells, _), (before, _) = (
        cells_of_poses(T[:, None], camera)
        for T, camera in (
            (seen.T_cam_head, seen.cameras_of_heads()),
            (
                crops.T_crop_head,
                replace(seen.cameras_of_heads(), f=crops.f[:, None].expand(-1, 2), c=crops.c),
            ),
        )
    )
    tile_px = SIDE_PX / 2
    torch.testing.assert_close(cells.columns, before.columns)
    torch.testing.assert_close(cells.log_size.exp(), tile_px / 128 * before.log_size.exp())
    corner = tile_px * torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    uv = (before.uv[:, 0] + 0.5) * tile_px / 128 - 0.5 + corner
    torch.testing.assert_close(cells.uv[:, 0], uv)


def test_a_head_of_which_little_is_visible_must_not_be_found(generator):
    crops = BlobHeads(4, 64).batch(np.arange(4))
    crops.visible[1] = False
    seen = lay_mosaics(MosaicBatch(crops, torch.tensor([2])), PLAIN, SIDE_PX, generator)
    assert seen.visible_fraction.tolist() == [1, 0, 1, 1]


def test_a_batch_is_decided_by_its_number():
    source = MosaicSource(BlobHeads(500, 32), 4)
    a, b, c = (source.batch(n, 6, 0) for n in (5, 5, 6))
    assert torch.equal(a.per_side, b.per_side)
    assert torch.equal(a.crops.pictures, b.crops.pictures)
    assert not torch.equal(a.per_side, c.per_side)
    assert set(a.per_side.tolist()) <= {1, 2, 3, 4}
    assert len(a.crops.uv) == int(a.per_side.square().sum())


TREE = {
    'out': 'x',
    'steps': 10,
    'batch': 2,
    'single_shot': {'channels': [8] * 5, 'blocks': 1, 'neck_channels': 8, 'head_blocks': 1},
    'windows': {'side_px': 64},
    'mosaics': {'share': 0.5, 'most_per_side': 2},
}


def test_a_training_takes_its_share_of_mosaics(generator):
    config = config_from_dict(TREE, 'test')
    task = SingleShotTask(config, BlobScenes(4), {}, POINTS, BlobHeads(20, 64))
    batches = [task.batch(n) for n in range(100)]
    assert 35 < sum(isinstance(b, MosaicBatch) for b in batches) < 65
    for batch in batches[:8]:
        losses = task.losses(task.network, batch, generator, 0)
        assert all(bool(loss.isfinite()) for loss in losses.values())


def test_mosaics_without_crops_are_refused():
    with pytest.raises(DataError, match=r'data\.crops must name folders'):
        SingleShotTask(config_from_dict(TREE, 'test'), BlobScenes(4), {}, POINTS)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'windows': {'side_px': 0}}, r'windows\.side_px must not be 0'),
        ({'mosaics': {'share': 1.5}}, r'share must be in \[0, 1\], got 1\.5'),
        ({'mosaics': {'most_per_side': 0}}, 'most_per_side must be at least 1, got 0'),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(TREE | change, 'file.yaml')
    assert MosaicOptions().share == 0
