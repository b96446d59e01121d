# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation moves pictures and labels together, exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.torch_geometry import se3
from face_pose_lab.training.augment import (
    AugmentOptions,
    move_crops,
    photometric,
    resized_crops,
)
from face_pose_lab.training.batches import CropBatch
from lab.training.blobs import MIRROR, BlobHeads

GEOMETRY = AugmentOptions(
    roll_deg=20, colour=0, grey=0, gradient=0, blur=0, coarse=0, noise=0, jpeg=0, occlusion=0,
    border=0, harsh=0,
)  # fmt: skip


def reprojected(batch: CropBatch) -> torch.Tensor:
    points = se3.apply(batch.T_crop_head, batch.xyz_head)
    return batch.f[:, None, None] * points[..., :2] / points[..., 2:] + batch.c[:, None]


def of_coordinates(height: int, width: int, count: int) -> torch.Tensor:
    """(count, 3, H, W) uint8 pictures whose red is the column and whose green is the row."""
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.stack([u, v, 0 * u]).to(torch.uint8).expand(count, -1, -1, -1)


def shown_at(pictures: torch.Tensor, uv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `of_coordinates` pictures in [0, 1] show at uv (B, K, 2), and where uv is inside."""
    size = uv.new_tensor([pictures.shape[-1], pictures.shape[-2]])
    grid = (2 * (uv + 0.5) / size - 1)[:, None].float()
    seen = torch.nn.functional.grid_sample(pictures, grid, 'bilinear', align_corners=False)
    return 255 * seen[:, :2, 0].mT, ((uv > 1) & (uv < size - 2)).all(-1)


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_the_labels_stay_those_of_one_camera_and_one_head(flip, generator):
    source = BlobHeads(40, size_px=48)
    options = AugmentOptions(**{**vars(GEOMETRY), 'flip': flip})
    batch = source.batch(np.arange(40))
    moved = move_crops(batch, torch.from_numpy(MIRROR), options, 64, generator)
    assert moved.pictures.shape == (40, 3, 64, 64)
    assert (reprojected(moved) - moved.uv).abs().max() < 2e-3
    R = moved.T_crop_head[:, :3, :3]
    assert (torch.linalg.det(R) - 1).abs().max() < 1e-6
    # A mirrored head still looks at the camera, and its left is on the other side of the picture.
    assert (moved.T_crop_head[:, 2, 0] < 0).all()
    left, right = moved.uv[:, 3, 0], moved.uv[:, 4, 0]
    assert ((left - right > 0) == (batch.uv[:, 3, 0] - batch.uv[:, 4, 0] > 0)).float().mean() > 0.9


def test_images_move_with_their_labels(generator):
    batch = BlobHeads(60, size_px=96).batch(np.arange(60))
    batch = replace(batch, pictures=of_coordinates(96, 96, 60))
    moved = move_crops(batch, torch.from_numpy(MIRROR), GEOMETRY, 128, generator)
    old = torch.stack([batch.uv, batch.uv[:, MIRROR]])
    seen, inside = shown_at(moved.pictures / 255, moved.uv)
    there = ((old > 2) & (old < 93)).all(-1)
    off = torch.where(there, (seen - old).norm(dim=-1), 0)
    # Of a mirrored picture the partner's place shows; of the others the keypoint's own.
    of_picture = torch.where(inside, off, 0).amax(-1).amin(0)
    assert of_picture.max() < 0.7  # rounded to whole numbers


def test_without_a_change_only_the_size_does(generator):
    batch = BlobHeads(5, size_px=32).batch(np.arange(5))
    same = resized_crops(batch, torch.from_numpy(MIRROR), 32)
    assert torch.equal(same.pictures, batch.pictures)
    assert (same.uv - batch.uv).abs().max() < 1e-4
    twice = resized_crops(batch, torch.from_numpy(MIRROR), 64)
    assert ((twice.uv + 0.5) - 2 * (batch.uv + 0.5)).abs().max() < 1e-4


def test_the_same_generator_gives_the_same_images():
    batch = BlobHeads(16).batch(np.arange(16))
    mirror = torch.from_numpy(MIRROR)
    pictures = []
    for seed in (3, 3, 4):
        generator = torch.Generator().manual_seed(seed)
        moved = move_crops(batch, mirror, AugmentOptions(), 32, generator).pictures
        pictures.append(photometric(moved / 255, AugmentOptions(), generator))
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])


@pytest.mark.parametrize(
    'name',
    [
        'colour',
        'grey',
        'harsh',
        'filtered',
        'gradient',
        'blur',
        'coarse',
        'noise',
        'jpeg',
        'occlusion',
        'border',
    ],
)
def test_every_photometric_change_stays_in_range(name, generator):
    nothing = dict.fromkeys(vars(AugmentOptions()), 0.0)
    x = BlobHeads(12, size_px=40).batch(np.arange(12)).pictures.float() / 255
    off = photometric(x, AugmentOptions(**nothing), generator)
    on = photometric(x, AugmentOptions(**{**nothing, name: 1.0}), generator)
    assert (off - x).abs().max() < 2e-4
    assert (on - x).abs().flatten(1).amax(-1).median() > 0.02
    assert on.min() >= 0
    assert on.max() <= 1
