# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of scenes show heads, and their cameras are exact."""

import pytest
import torch
from face_pose_lab.torch_faces.single_shot import cells_of_poses
from face_pose_lab.torch_geometry import se3
from face_pose_lab.training.augment import AugmentOptions
from face_pose_lab.training.single_shot_losses import SingleShotLossOptions
from face_pose_lab.training.windows import WindowOptions, augment_scenes
from lab.training.blobs import POINTS, BlobScenes

PLAIN = AugmentOptions(**(dict.fromkeys(vars(AugmentOptions()), 0.0) | {'flip': 0.5}))
WANTED = SingleShotLossOptions()


def windows_of(options, generator, count=16):
    batch = BlobScenes(count, 320, 192).in_order(count)[0]
    return batch, augment_scenes(batch, PLAIN, options, WANTED, generator)


def test_every_aimed_window_shows_a_head(generator):
    options = WindowOptions(side_px=96, min_head_px=40, max_head_px=60, aimed=1, max_zoom=4)
    _, seen = windows_of(options, generator)
    cells, _ = cells_of_poses(seen.T_cam_head[:, None], seen.cameras_of_heads())
    inside = ((cells.uv[:, 0] > 0) & (cells.uv[:, 0] < 95)).all(-1)
    size = cells.log_size[:, 0].exp()
    fits = inside & (size > 39) & (size < 61)
    assert seen.pictures.shape[-2:] == (96, 96)
    assert all(bool(fits[seen.image_index == i].any()) for i in range(16))


def test_images_and_cameras_of_windows_agree(generator):
    """A blob of the picture lies where the window's camera sees its point."""
    options = WindowOptions(side_px=128, aimed=1, min_head_px=60, max_head_px=90)
    _, seen = windows_of(options, generator)
    uv = seen.cameras_of_heads().project(se3.apply(seen.T_cam_head, POINTS)).uv
    grid = (uv.float() + 0.5) / 64 - 1
    bright = torch.nn.functional.grid_sample(
        seen.pictures[seen.image_index], grid[:, None], align_corners=False
    ).amax(1)[:, 0]
    inside = (grid.abs() < 0.95).all(-1)
    assert inside.float().mean() > 0.3
    assert bright[inside].median() > 0.8 * float(seen.pictures.max())


def test_nothing_beyond_the_image_where_it_is_large_enough(generator):
    options = WindowOptions(side_px=64, aimed=0.5, max_zoom=1)
    batch = BlobScenes(16, 320, 192).in_order(16)[0]
    white = batch.with_pictures(torch.full_like(batch.pictures, 255))
    seen = augment_scenes(white, PLAIN, options, WANTED, generator)
    # All but the outermost pixels, which bilinear sampling mixes with the outside.
    filled = (seen.pictures[..., 2:-2, 2:-2] > 0.99).flatten(1).all(-1)
    assert filled.float().mean() > 0.7


def test_a_side_that_the_network_cannot_take_is_refused():
    with pytest.raises(ValueError, match='side_px must be a multiple of 32 or 0, got 100'):
        WindowOptions(side_px=100)
