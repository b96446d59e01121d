# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Against analytic geometry: spheres, triangles and rays, through every lens."""

import math

import pytest
import torch
from face_pose_lab.synthetic import rasterizer
from face_pose_lab.synthetic.rasterizer import rasterize
from face_pose_lab.torch_geometry.camera import Camera
from helpers.cameras import TORCH_LENSES, make_torch_camera

torch.manual_seed(0)
QUAD = torch.tensor([[0, 1, 2], [0, 2, 3]])


def sphere(radius: float, centre: tuple, rows: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (V, 3) and triangles (F, 3) of a fine sphere."""
    polar = torch.linspace(0, math.pi, rows, dtype=torch.float64)[:, None]
    turn = torch.arange(rows, dtype=torch.float64) * (2 * math.pi / rows)
    x, y = polar.sin() * turn.cos(), polar.sin() * turn.sin()
    xyz = radius * torch.stack([x, y, polar.cos().expand_as(x)], -1).flatten(0, 1)
    index = torch.arange((rows - 1) * rows).view(rows - 1, rows)
    right = index.roll(-1, 1)
    corners = [index, right, right + rows, index + rows]
    quads = torch.stack(corners, -1).view(-1, 4)
    triangles = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return xyz + torch.tensor(centre, dtype=torch.float64), triangles


def pixel_grid(camera: Camera) -> torch.Tensor:
    """(height * width, 2) uv of all pixels, in the order of Fragments.pixel."""
    v, u = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing='ij')
    return torch.stack([u, v], -1).flatten(0, 1).double()


def covered(camera: Camera, fragments: rasterizer.Fragments) -> torch.Tensor:
    mask = torch.zeros(camera.height * camera.width, dtype=torch.bool)
    mask[fragments.pixel] = True
    return mask


@pytest.mark.parametrize('name', TORCH_LENSES)
def test_a_sphere_is_seen_where_its_rays_meet_it(name):
    camera = make_torch_camera(name).resize(480, 360)
    radius, centre = 0.11, (0.16, -0.09, 0.55)
    xyz, triangles = sphere(radius, centre)
    seen = rasterize(xyz[None], triangles, camera)

    rays = camera.unproject(pixel_grid(camera)).rays
    along = rays @ torch.tensor(centre, dtype=torch.float64)
    miss = (sum(c * c for c in centre) - along**2).clamp_min(0).sqrt()  # distance ray - centre
    mask = covered(camera, seen)
    # The facets cut at most 0.1 mm off the sphere; a pixel's footprint there is 1.5 mm.
    assert not mask[miss > radius].any()
    assert mask[miss < radius - 2e-4].all()

    depth = seen.interpolate(xyz, triangles).norm(dim=-1)
    expected = along[seen.pixel] - (radius**2 - miss[seen.pixel] ** 2).clamp_min(0).sqrt()
    inner = miss[seen.pixel] < 0.9 * radius
    assert (depth - expected)[inner].abs().max() < 2e-4


@pytest.mark.parametrize('name', TORCH_LENSES)
def test_interpolated_points_lie_on_the_rays_of_their_pixels(name):
    camera = make_torch_camera(name).resize(480, 360)
    xyz, triangles = sphere(0.11, (-0.15, 0.12, 0.6))
    seen = rasterize(xyz[None], triangles, camera)
    point = seen.interpolate(xyz, triangles)
    uv = camera.project(point).uv
    # Straight edges through a bent lens: the slip is a fraction of a pixel, and no half pixel.
    slip = (uv - pixel_grid(camera)[seen.pixel]).norm(dim=-1)
    assert slip.max() < 0.01


def test_a_large_triangle_is_exact_without_distortion():
    camera = make_torch_camera('none').resize(320, 240)
    xyz = torch.tensor([[-0.9, -0.2, 0.8], [1.1, -0.6, 3.0], [0.1, 0.9, 1.5]]).double()
    seen = rasterize(xyz[None], torch.tensor([[0, 1, 2]]), camera)
    rays = camera.unproject(pixel_grid(camera)).rays
    weights = torch.linalg.solve(xyz.T, rays.T).T  # ray = sum of weights times corners
    inside = (weights > 0).all(-1)
    assert torch.equal(covered(camera, seen), inside)
    expected = weights[seen.pixel] / weights[seen.pixel].sum(-1, keepdim=True)
    assert (seen.barycentric - expected).abs().max() < 1e-5


@pytest.mark.parametrize('order', [[0, 1], [1, 0]])
def test_the_nearer_of_two_crossing_triangles_wins(order):
    camera = make_torch_camera('none').resize(320, 240)
    tilted = torch.tensor([[-0.5, -0.4, 0.8], [0.5, -0.4, 1.4], [0.0, 0.5, 1.1]]).double()
    mirrored = tilted * torch.tensor([-1, 1, 1])
    xyz = torch.cat([tilted, mirrored])
    triangles = torch.tensor([[0, 1, 2], [3, 4, 5]])[order]
    seen = rasterize(xyz[None], triangles, camera)
    uv = pixel_grid(camera)[seen.pixel]
    both = (uv - camera.c)[:, 0].abs() > 1e-6
    nearer = torch.where(uv[:, 0] < camera.c[0], order.index(0), order.index(1))
    # Beside the middle line both triangles cover the pixels near it.
    near = both & ((uv - camera.c).abs() < torch.tensor([40, 40])).all(-1)
    assert near.sum() > 1000
    assert torch.equal(seen.triangle[near], nearer[near])


@pytest.mark.parametrize('samples', [1, 4])
def test_pixel_centres_have_integer_coordinates(samples):
    """The centroid of a small disc is where the camera projects its middle."""
    camera = make_torch_camera('none')
    middle = torch.tensor([0.203, -0.118, 1.3]).double()
    angle = torch.arange(200, dtype=torch.float64) * (2 * math.pi / 200)
    rim = torch.stack([angle.cos(), angle.sin(), 0 * angle], -1) * 0.02
    xyz = torch.cat([middle[None], middle + rim])
    triangles = torch.stack(
        [torch.zeros(200).long(), 1 + torch.arange(200), 1 + (torch.arange(200) + 1) % 200], -1
    )
    fine = camera.resize(samples * camera.width, samples * camera.height)
    mask = covered(fine, rasterize(xyz[None], triangles, fine)).double()
    mask = mask.view(camera.height, samples, camera.width, samples).mean((1, 3)).flatten()
    centroid = (mask[:, None] * pixel_grid(camera)).sum(0) / mask.sum()
    assert (centroid - camera.project(middle[None]).uv[0]).abs().max() < (0.1, 0.02)[samples > 1]


def test_neighbours_leave_no_gap_and_share_no_pixel_twice():
    camera = make_torch_camera('none').resize(160, 120)
    # A jittered mesh larger than the image, with corners on pixel centres and level edges.
    u, v = torch.meshgrid(torch.arange(-8, 176, 8), torch.arange(-8, 136, 8), indexing='xy')
    uv = torch.stack([u, v], -1).double()
    uv[1:-1, 1:-1] += torch.randint(-3, 4, uv[1:-1, 1:-1].shape)
    xyz = torch.cat([(uv - camera.c) / camera.f, torch.ones_like(uv[..., :1])], -1)
    rows, columns = uv.shape[:2]
    index = torch.arange(rows * columns).view(rows, columns)
    corners = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    quads = torch.stack([c.flatten() for c in corners], -1)
    triangles = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    seen = rasterize(xyz.view(1, -1, 3), triangles, camera)
    assert torch.equal(seen.pixel, torch.arange(160 * 120))


def test_triangles_out_of_the_lens_s_range_are_not_drawn():
    camera = make_torch_camera('plumb_bob_5').resize(160, 120)
    front = torch.tensor([[-0.1, -0.1, 1], [0.1, -0.1, 1], [0, 0.1, 1]]).double()
    behind = front * torch.tensor([1, 1, -1])
    beyond = front + torch.tensor([9.0, 0, 0])
    half_behind = torch.stack([front[0], front[1], behind[2]])
    half_beyond = torch.stack([front[0], front[1], beyond[2]])
    xyz = torch.stack([behind, beyond, half_behind, half_beyond, front])
    seen = rasterize(xyz, torch.tensor([[0, 1, 2]]), camera)
    assert (seen.pixel // (160 * 120)).unique().tolist() == [4]


def test_a_fisheye_sees_beyond_90_degrees():
    camera = Camera.from_K([150, 0, 310, 0, 155, 290, 0, 0, 1], 640, 600, (), 'equidistant')
    xyz, triangles = sphere(0.1, (0.5, 0.1, -0.15))  # 106 deg from the axis
    seen = rasterize(xyz[None], triangles, camera)
    assert len(seen.pixel) > 1000
    rays = camera.unproject(pixel_grid(camera)[seen.pixel]).rays
    point = seen.interpolate(xyz, triangles)
    across = torch.linalg.cross(rays, point).norm(dim=-1)
    assert across.max() < 1e-4
    assert (point.norm(dim=-1) < torch.tensor([0.5, 0.1, -0.15]).norm()).all()  # the near side


def test_images_of_a_batch_are_those_of_single_calls(monkeypatch):
    camera = make_torch_camera('rational_8').resize(200, 150)
    xyz, triangles = sphere(0.1, (0, 0, 0.6), rows=40)
    views = xyz + torch.tensor([[0.1, 0, 0], [-0.05, 0.07, 0.2], [0, 0, -2]]).double()[:, None]
    batch = rasterize(views, triangles, camera)
    monkeypatch.setattr(rasterizer, '_CHUNK_PX', 500)
    pixels = camera.height * camera.width
    for i, view in enumerate(views):
        single = rasterize(view[None], triangles, camera)
        mine = batch.pixel // pixels == i
        assert torch.equal(batch.pixel[mine] - i * pixels, single.pixel)
        assert torch.equal(batch.triangle[mine], single.triangle)
        assert torch.equal(batch.barycentric[mine], single.barycentric)
    assert len(single.pixel) == 0  # the last one lies behind the camera


def test_an_edge_on_triangle_covers_nothing():
    camera = make_torch_camera('none').resize(160, 120)
    xyz = torch.tensor([[0.1, -0.1, 1], [0.2, -0.2, 2], [0.05, -0.05, 0.5]]).double()
    assert len(rasterize(xyz[None], torch.tensor([[0, 1, 2]]), camera).pixel) == 0
