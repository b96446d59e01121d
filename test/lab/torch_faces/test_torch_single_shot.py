# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cells and poses in torch: one the inverse of the other, and as the runtime has them."""

from dataclasses import replace

import pytest
import torch
from face_pose_lab.torch_faces.single_shot import (
    cell_centres,
    cell_poses,
    cells_of_poses,
    poses_in_camera,
    stride_of_size,
)
from face_pose_lab.torch_geometry import so3
from helpers.cameras import TORCH_LENSES, make_camera, make_torch_camera
from helpers.scene import random_poses

from face_pose_ros.faces import single_shot as runtime
from face_pose_ros.faces.single_shot import HEAD_CENTRE, HEAD_SIZE_M, STRIDES
from face_pose_ros.networks.single_shot import SingleShot, SingleShotOptions

TINY = SingleShotOptions((8, 8, 16, 16, 16), blocks=1, neck_channels=8, head_blocks=1)


@pytest.mark.parametrize('lens', TORCH_LENSES)
def test_cells_say_poses_exactly_whatever_the_lens(lens, generator):
    camera = make_torch_camera(lens)
    T = random_poses(300, camera, generator)
    cells, visible = cells_of_poses(T, camera)
    again, valid = poses_in_camera(cells, camera)
    assert visible.all()
    assert valid.all()
    torch.testing.assert_close(again, T, rtol=0, atol=1e-9)
    cells = runtime.CellPoses(*(field.numpy() for field in cells))
    poses, valid = runtime.poses_in_camera(cells, make_camera(lens))
    assert valid.all()
    torch.testing.assert_close(torch.from_numpy(poses), T, rtol=0, atol=1e-9)


def test_each_image_may_have_a_camera_of_its_own(generator):
    camera = make_torch_camera('plumb_bob_5')
    T = random_poses(4, camera, generator)
    other = replace(camera, f=2 * camera.f, c=camera.c + 7)
    both = replace(
        camera,
        f=torch.stack([camera.f, other.f]),
        c=torch.stack([camera.c, other.c]),
        dist=camera.dist.expand(2, -1),
        range_max=camera.range_max.expand(2),
    )
    batch, _ = cells_of_poses(T.unflatten(0, (2, 2)), both)
    for i, one in enumerate((camera, other)):
        alone, _ = cells_of_poses(T[2 * i : 2 * i + 2], one)
        for a, b in zip(batch, alone, strict=True):
            assert torch.allclose(a[i], b)


def test_the_apparent_size_is_that_in_the_image():
    camera = make_torch_camera()
    T = torch.eye(4, dtype=torch.float64)[None]
    T[:, :3, 3] = torch.tensor([0.0, 0, 2.0]) - torch.tensor(HEAD_CENTRE)
    cells, _ = cells_of_poses(T, camera)
    f = (camera.f[0] * camera.f[1]).sqrt()
    assert float(cells.log_size.exp()) == pytest.approx(float(f) * HEAD_SIZE_M / 2.0)
    assert torch.allclose(cells.uv[0], camera.c)


def test_cells_lie_where_their_pixels_are():
    centres = cell_centres(3, 4, 8)
    assert centres[0].tolist() == [3.5, 3.5]  # pixels 0 to 7
    assert centres[-1].tolist() == [27.5, 19.5]


def test_the_grids_share_the_sizes():
    sizes = torch.tensor([10.0, 47, 49, 111, 113, 2000])
    assert stride_of_size(sizes).tolist() == [0, 0, 1, 1, 2, 2]


def test_every_cell_of_every_stride_answers_once():
    network = SingleShot(TINY).eval()
    outputs = network(torch.rand(2, 3, 96, 160))
    cells = cell_poses(outputs)
    assert [o.shape[2:] for o in outputs] == [(96 // s, 160 // s) for s in STRIDES]
    assert cells.score.shape == (2, sum(96 // s * 160 // s for s in STRIDES))
    # Untrained cells say: no face; if there were one, it would look into the camera.
    assert (cells.score.sigmoid() < 0.05).all()
    forward = so3.from_columns(cells.columns)[..., 0]
    assert (forward[..., 2] < -0.9).all()


def test_images_of_a_wrong_size_are_refused():
    with pytest.raises(ValueError, match=r'multiples of 32, got \(1, 3, 90, 160\)'):
        SingleShot(TINY)(torch.rand(1, 3, 90, 160))


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match='channels must be 5 positive numbers'):
        SingleShotOptions(channels=(8, 8))
