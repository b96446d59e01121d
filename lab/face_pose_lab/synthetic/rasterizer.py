# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The triangle seen by each pixel: a z-buffer in torch, for any lens.

Vertices are projected through the real camera model, so they are exact through every lens. Edges
are straight in the image: of a triangle of a few millimetres a lens bends them by less than a
hundredth of a pixel. Triangles are cut into the spans of pixels that they cover in each row
(scanline conversion), with pixel centres at integer coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_lab.torch_geometry.camera import Camera

# Pixels of one chunk's bounding boxes: bounds the memory to about 100 bytes times this.
_CHUNK_PX = 1 << 22
# A pixel centre this close to an edge belongs to both neighbours, never to neither of them.
_EDGE_TOLERANCE_PX = 1e-7
_MIN_AREA_PX = 1e-6  # twice the area below which a triangle covers no pixel


class Fragments(NamedTuple):
    """Surface points of the P pixels that see one, in ascending order of `pixel`."""

    pixel: Tensor  # (P,) int64, index into the flattened images: (n * height + v) * width + u
    triangle: Tensor  # (P,) int64
    barycentric: Tensor  # (P, 3) float32, weights of the triangle's corners on the 3-D surface

    def interpolate(self, values: Tensor, triangles: Tensor) -> Tensor:
        """Values at the seen surface points.

        Args:
            values: (V, C) at the vertices.
            triangles: (F, 3), as rasterised.

        Returns:
            (P, C).
        """
        corners = values[triangles[self.triangle]]
        return (self.barycentric[..., None] * corners).sum(-2)


class _Screen(NamedTuple):
    """Triangles that can be drawn: M of them, set up in the image."""

    triangle: Tensor  # (M,) int64, which one
    image: Tensor  # (M,) int64, in which image
    # Inverse depth times barycentric weight of each corner, and the sum of the three (the inverse
    # depth itself), as functions (a, b, c) of the pixel: a u + b v + c.
    planes: Tensor  # (M, 4, 3)
    edges: Tensor  # (M, 3, 3) functions (a, b, c), px, that are >= 0 inside
    first_row: Tensor  # (M,) int64
    rows: Tensor  # (M,) int64, how many
    columns: Tensor  # (M,) int64, width of the bounding box


def rasterize(xyz_cam: Tensor, triangles: Tensor, camera: Camera) -> Fragments:
    """Nearest surface in each pixel of N images of the same triangles.

    A triangle with a corner that the lens does not see (out of range, behind the camera) is not
    drawn, nor is one that the camera sees edge-on. Both sides of a triangle are visible.

    Args:
        xyz_cam: (N, V, 3) vertices in the camera frame [m].
        triangles: (F, 3) int64, indices into the V vertices.
        camera: The images' camera, or N of one size.
    """
    pixels = camera.height * camera.width
    # Largest inverse depth wins; float32 bits of positive numbers sort like integers. The lower
    # half of the key names the triangle, so the winner of a tie does not depend on the order.
    buffer = torch.zeros(len(xyz_cam) * pixels, dtype=torch.int64, device=xyz_cam.device)
    screen = _set_up(xyz_cam, triangles, camera)
    for chunk in _chunks(screen.rows * screen.columns):
        _draw(buffer, _Screen(*(field[chunk] for field in screen)), chunk.start, camera)
    pixel = buffer.nonzero().squeeze(-1)
    winner = buffer[pixel] & 0xFFFFFFFF
    uv1 = torch.stack(
        [pixel % camera.width, pixel % pixels // camera.width, torch.ones_like(pixel)], -1
    )
    weights = (screen.planes[winner, :3] @ uv1.to(screen.planes)[..., None]).squeeze(-1)
    weights = weights.clamp_min(0)
    barycentric = (weights / weights.sum(-1, keepdim=True)).float()
    return Fragments(pixel, screen.triangle[winner], barycentric)


def _set_up(xyz_cam: Tensor, triangles: Tensor, camera: Camera) -> _Screen:
    xyz = xyz_cam.to(camera.f)
    uv, valid, _ = camera.project(xyz)
    # Perspective-correct weights need the depth along the optical axis; beyond 90 deg there is
    # none, and the distance serves as well for triangles that are small as seen from the camera.
    depth = xyz.norm(dim=-1) if camera.distortion_model == 'equidistant' else xyz[..., 2]
    low, high = uv[:, triangles].aminmax(dim=-2)
    size = uv.new_tensor([camera.width, camera.height])
    first = low.ceil().clamp_min(0)
    last = torch.minimum(high.floor(), size - 1)
    # A bounding box without a pixel centre is the common fate of a distant head's triangles.
    drawn = valid[:, triangles].all(-1) & (last >= first).all(-1)
    image, triangle = drawn.nonzero(as_tuple=True)
    corners = image[:, None], triangles[triangle]
    p, inv_depth = uv[corners], 1 / depth[corners]
    following, last_corner = p.roll(-1, 1), p.roll(-2, 1)
    # The edge opposite to each corner, as a line: cross(following, last) . (u, v, 1).
    a = following[..., 1] - last_corner[..., 1]
    b = last_corner[..., 0] - following[..., 0]
    c = following[..., 0] * last_corner[..., 1] - following[..., 1] * last_corner[..., 0]
    edges = torch.stack([a, b, c], -1)
    area = c.sum(-1)  # twice the signed area
    edges = edges * area.sign()[:, None, None]
    barycentric = edges / area.abs().clamp_min(_MIN_AREA_PX)[:, None, None]
    planes = barycentric * inv_depth[..., None]
    planes = torch.cat([planes, planes.sum(1, keepdim=True)], 1)
    first, last = first[image, triangle].long(), last[image, triangle].long()
    rows = torch.where(area.abs() > _MIN_AREA_PX, last[:, 1] - first[:, 1] + 1, 0)
    columns = last[:, 0] - first[:, 0] + 1
    return _Screen(triangle, image, planes, edges, first[:, 1], rows, columns)


def _chunks(cost: Tensor) -> Iterator[slice]:
    """Ranges of triangles whose costs sum up to about _CHUNK_PX."""
    total = cost.cumsum(0)
    start, count = 0, len(cost)
    while start < count:
        done = total[start - 1] if start else total.new_zeros(())
        end = int(torch.searchsorted(total, done + _CHUNK_PX, right=True))
        end = max(end, start + 1)
        yield slice(start, end)
        start = end


def _draw(buffer: Tensor, screen: _Screen, first_id: int, camera: Camera) -> None:
    """Put the triangles' inverse depths and ids (first_id, first_id + 1, ...) into the buffer."""
    index, offset = _expand(screen.rows)
    v = (screen.first_row[index] + offset).to(screen.edges)
    a, b, c = screen.edges[index].unbind(-1)  # (rows, 3)
    value = b * v[:, None] + c
    crossing = -value / a
    tolerance = _EDGE_TOLERANCE_PX
    # A level edge (a = 0) bounds no column: it takes the whole row or leaves it.
    outside = ((a == 0) & (value < -tolerance * b.abs())).any(-1)
    left = torch.where(a > 0, crossing, -torch.inf).amax(-1) - tolerance
    right = torch.where(a < 0, crossing, torch.inf).amin(-1) + tolerance
    left = left.clamp(0, camera.width).ceil()
    right = right.clamp(-1, camera.width - 1).floor()
    width = torch.where(outside, 0, right - left + 1).clamp_min(0).long()

    row, u_offset = _expand(width)
    plane = screen.planes[index, 3]
    slope = plane[:, 0]
    start = slope * left + plane[:, 1] * v + plane[:, 2]
    inv_depth = start[row].float() + slope[row].float() * u_offset
    first_px = (screen.image[index] * camera.height + v.long()) * camera.width + left.long()
    key = inv_depth.view(torch.int32).long() << 32 | (first_id + index)[row]
    buffer.scatter_reduce_(0, first_px[row] + u_offset, key, 'amax')


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Index i repeated counts[i] times, and the number 0, 1, ... of each repetition."""
    index = torch.repeat_interleave(counts)
    first = counts.cumsum(0) - counts
    return index, torch.arange(len(index), device=counts.device) - first[index]
