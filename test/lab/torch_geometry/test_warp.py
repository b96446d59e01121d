# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pixel maps: nodes and what lies between them."""

import pytest
import torch
from face_pose_lab.torch_geometry.warp import cell_nodes, interpolate_nodes
from helpers.cameras import HEIGHT, WIDTH, make_torch_camera


def pixel_centres(height: int, width: int, samples: int = 1) -> torch.Tensor:
    v = (torch.arange(height * samples, dtype=torch.float64) + 0.5) / samples - 0.5
    u = (torch.arange(width * samples, dtype=torch.float64) + 0.5) / samples - 0.5
    return torch.stack(torch.meshgrid(u, v, indexing='xy'), -1)


@pytest.mark.parametrize('samples', [1, 2, 3])
def test_the_identity_map_is_exact(samples):
    between = interpolate_nodes(cell_nodes(48, 80)[None], samples)[0]
    expected = pixel_centres(48, 80, samples)
    assert between.shape == (48 * samples, 80 * samples, 2)
    torch.testing.assert_close(between, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize('name', ['plumb_bob_5', 'equidistant'])
def test_a_lens_is_straight_between_nodes(name):
    camera = make_torch_camera(name)
    flat = make_torch_camera('none')
    nodes = cell_nodes(HEIGHT, WIDTH)
    between = interpolate_nodes(camera.project(flat.unproject(nodes).rays).uv[None])[0]
    exact = camera.project(flat.unproject(pixel_centres(HEIGHT, WIDTH)).rays).uv
    assert (between - exact).norm(dim=-1).max() < 0.03
