# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The mesh that is drawn: ICT-FaceKit's visible parts, hair over the scalp, a torso below.

Every vertex has a place on the mean neutral head, the reference. Colours are functions of that
place, so they move with the skin.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.synthetic.ict_facekit import IctFaceKit, Part
from face_pose_lab.synthetic.rasterizer import rasterize
from face_pose_lab.torch_geometry.camera import Camera

# Lashes are painted: as opaque strips they would be bars.
_INVISIBLE = (Part.IRIS, Part.LACRIMAL, Part.EYE_BLEND, Part.EYE_OCCLUSION, Part.LASHES)
_TORSO_RINGS = 6
# The head's vertical axis in the reference, behind the sellion [m].
AXIS_X = -0.10
# Height of the hairline [m] at angles round that axis [deg]: forehead, temple, sideburn, over the
# ear, behind it, nape. By eye.
_HAIRLINE_DEG = (0, 30, 50, 64, 73, 82, 100, 112, 140, 180)
_HAIRLINE_M = (0.066, 0.068, 0.045, 0.0, -0.03, 0.012, 0.008, -0.02, -0.07, -0.08)
_EAR = ((-0.13, -0.058), (0.0775, 0.1), (-0.055, 0.008))  # x, |y|, z ranges in the reference [m]
_CURTAIN = (24, 49)  # rows and columns of long hair


class Material(enum.IntEnum):
    """Colouring of a triangle."""

    SKIN = 0
    MOUTH = 1
    TEETH = 2
    EYE = 3
    HAIR = 4
    CLOTH = 5


_MATERIAL_OF_PART = {
    Part.FACE: Material.SKIN,
    Part.HEAD_NECK: Material.SKIN,
    Part.EYE_SOCKET: Material.SKIN,
    Part.MOUTH_SOCKET: Material.MOUTH,
    Part.GUMS_TONGUE: Material.MOUTH,
    Part.TEETH: Material.TEETH,
    Part.EYEBALL: Material.EYE,
}


@dataclass(frozen=True)
class HairStyle:
    """Shape of the hair."""

    thickness: float  # over the scalp [m]; 0 is none
    fringe: float  # how far it hangs down over the hairline [m]
    length: float  # beside and behind the head, below the sellion [m]; 0 is none
    opening: float = 75.0  # half the angle that long hair leaves open at the face [deg]


class Body:
    """Topology and reference of everything that is drawn.

    Vertices are ordered: ICT-FaceKit's, the torso's rings, the hair over the scalp (a copy of the
    skin's vertices), long hair.

    Attributes:
        triangles: (F, 3) int64.
        material: (F,) int64, values of Material.
        xyz: (V, 3) float32, reference [m].
        openness: (V,) float32, share of the sky that each vertex of the reference sees, in [0, 1].
        above_hairline: (V,) float32 [m], how far into the hair the reference lies.
    """

    def __init__(self, facekit: IctFaceKit, device: torch.device | str = 'cpu') -> None:
        visible = ~np.isin(facekit.triangle_part, _INVISIBLE)
        head, part = facekit.triangles[visible], facekit.triangle_part[visible]
        outside = np.isin(part, (Part.FACE, Part.HEAD_NECK))
        rim, skin = _lower_rim(head[outside], facekit.neutral), np.unique(head[outside])
        first_torso = len(facekit.neutral)
        first_hair = first_torso + _TORSO_RINGS * len(rim)
        hair_of_skin = np.full(first_torso, -1)
        hair_of_skin[skin] = first_hair + np.arange(len(skin))

        neutral = torch.from_numpy(facekit.neutral)
        above = hairline(neutral)
        above[_on_ear(neutral)] = -0.05
        haired = outside & (above.numpy()[head] > -0.015).all(1)
        pieces = {
            'torso': _rings(rim, first_torso),
            'scalp': hair_of_skin[head[haired]],
            'curtain': _grid(*_CURTAIN, first_hair + len(skin)),
        }
        self._counts = {name: len(piece) for name, piece in pieces.items()}
        self.triangles = torch.from_numpy(np.concatenate([head, *pieces.values()])).to(device)
        materials = [_MATERIAL_OF_PART[Part(p)] for p in part]
        materials += self._counts['torso'] * [Material.CLOTH]
        materials += (self._counts['scalp'] + self._counts['curtain']) * [Material.HAIR]
        self.material = torch.tensor(materials, dtype=torch.int64, device=device)

        self._rim, self._skin = torch.from_numpy(rim).to(device), torch.from_numpy(skin).to(device)
        torso = above.new_full((first_hair - first_torso,), -1.0)
        curtain = above.new_ones(_CURTAIN[0] * _CURTAIN[1])
        self.above_hairline = torch.cat([above, torso, above[skin], curtain]).to(device)
        bald = HairStyle(0.0, 0.0, 0.0)
        self.xyz = self.assemble(neutral.to(device), bald)
        self.openness = _openness(self.xyz, self.triangles[self.drawn(bald)])
        self.openness[first_hair:] = 1.0

    def drawn(self, style: HairStyle) -> Tensor:
        """Mask (F,) of the triangles to draw."""
        drawn = torch.ones_like(self.material, dtype=torch.bool)
        first_curtain = len(drawn) - self._counts['curtain']
        if style.thickness == 0:
            drawn[first_curtain - self._counts['scalp'] : first_curtain] = False
        if style.length == 0:
            drawn[first_curtain:] = False
        return drawn

    def assemble(self, head: Tensor, style: HairStyle) -> Tensor:
        """Vertices (V, 3) [m] of a head (ICT vertices, 3) [m] with torso and hair."""
        rim = head[self._rim]
        centre = rim.mean(0)
        # Width, depth and drop of each ring of the torso: shoulders, chest. By eye.
        widths = head.new_tensor([1.25, 1.55, 1.7, 1.75, 1.7, 1.65])
        depths = head.new_tensor([1.05, 1.15, 1.25, 1.35, 1.4, 1.4])
        drops = head.new_tensor([0.008, 0.025, 0.05, 0.1, 0.25, 0.6])
        scale = torch.stack([depths, widths, torch.full_like(widths, 0.5)], -1)
        rings = centre + (rim - centre) * scale[:, None]
        rings[..., 2] -= drops[:, None]
        scalp = _scalp(head[self._skin], self.above_hairline[self._skin], style)
        return torch.cat([head, rings.flatten(0, 1), scalp, _curtain(style).to(head)])


def _scalp(skin: Tensor, above: Tensor, style: HairStyle) -> Tensor:
    """Hair over skin (P, 3) that lies `above` (P,) the hairline, (P, 3)."""
    centre = skin.new_tensor([AXIS_X, 0.0, 0.0])
    outwards = F.normalize(skin - centre, dim=-1)
    inside = above + style.fringe
    full = 1 - torch.exp(-inside.clamp_min(0) / 0.02)
    lift = torch.where(inside > 0, 0.001 + style.thickness * full, -0.004)
    clumps = torch.sin(skin @ skin.new_tensor([[230.0, 90], [170, 260], [60, -200]])).mean(-1)
    return skin + outwards * (lift * (1 + 0.25 * clumps))[:, None]


def hairline(xyz: Tensor) -> Tensor:
    """Height (...,) [m] of points (..., 3) of the reference above the hairline."""
    angle = torch.atan2(xyz[..., 1].abs(), xyz[..., 0] - AXIS_X).rad2deg()
    height = np.interp(angle.numpy(), _HAIRLINE_DEG, _HAIRLINE_M)
    return xyz[..., 2] - torch.from_numpy(height).to(xyz)


def _on_ear(xyz: Tensor) -> Tensor:
    ranges = xyz.new_tensor(_EAR)
    place = torch.stack([xyz[:, 0], xyz[:, 1].abs(), xyz[:, 2]], -1)
    return ((place > ranges[:, 0]) & (place < ranges[:, 1])).all(-1)


def _curtain(style: HairStyle) -> Tensor:
    """Long hair: a surface round the back of the head, (rows * columns, 3)."""
    rows, columns = _CURTAIN
    opening = math.radians(style.opening)
    angle = torch.linspace(opening, 2 * math.pi - opening, columns)
    down = torch.linspace(0, 1, rows)[:, None]
    z = 0.05 - (style.length + 0.05) * down
    # Starts within the hair over the scalp and lies on the shoulders.
    bulge = (0.7 + 0.3 * (6 * down).clamp_max(1)) + 0.35 * ((-0.13 - z) / 0.1).clamp(0, 1)
    wave = 1 + 0.03 * torch.sin(17 * angle + 4 * down) + 0.02 * torch.sin(41 * angle - 3 * down)
    x = AXIS_X + (0.098 + style.thickness) * bulge * wave * angle.cos()
    y = (0.082 + style.thickness) * bulge * wave * angle.sin()
    return torch.stack([x, y, z.expand_as(x)], -1).flatten(0, 1)


def _lower_rim(triangles: NDArray[np.int64], xyz: NDArray[np.float32]) -> NDArray[np.int64]:
    """The loop of vertices where the bust is cut off."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    halves = {(int(a), int(b)) for a, b in edges}
    follower = {a: b for a, b in halves if (b, a) not in halves}
    start = min(follower, key=lambda vertex: xyz[vertex, 2])
    loop = [start]
    while follower[loop[-1]] != start:
        loop.append(follower[loop[-1]])
    return np.array(loop)


def _rings(rim: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    """Triangles between the rim and _TORSO_RINGS rings of new vertices."""
    size = len(rim)
    rings = np.concatenate([rim[None], first + np.arange(_TORSO_RINGS * size).reshape(-1, size)])
    upper, lower = rings[:-1], rings[1:]
    # The rim runs as the head's triangles have it; their neighbours run the other way.
    corners = upper, lower, np.roll(lower, -1, 1), np.roll(upper, -1, 1)
    return _split([c.ravel() for c in corners])


def _grid(rows: int, columns: int, first: int) -> NDArray[np.int64]:
    index = first + np.arange(rows * columns).reshape(rows, columns)
    corners = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    return _split([c.ravel() for c in corners])


def _split(corners: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    a, b, c, d = corners
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def vertex_normals(xyz: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals (V, 3) of vertices (V, 3), weighted by the areas of their triangles."""
    corners = xyz[triangles]
    face = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.zeros_like(xyz)
    for corner in triangles.unbind(-1):
        normals.index_add_(0, corner, face)
    return F.normalize(normals, dim=-1, eps=1e-20)


def _openness(xyz: Tensor, triangles: Tensor, directions: int = 48) -> Tensor:
    """Ambient occlusion (V,): the cosine-weighted share of a distant sphere each vertex sees."""
    normals = vertex_normals(xyz, triangles)
    index = torch.arange(directions) + 0.5
    z, turn = 1 - 2 * index / directions, index * math.pi * (3 - math.sqrt(5))
    level = (1 - z * z).sqrt()
    seen, possible = torch.zeros_like(xyz[:, 0]), torch.full_like(xyz[:, 0], 1e-3)
    for towards in torch.stack([level * turn.cos(), level * turn.sin(), z], -1).to(xyz):
        cosine = (normals @ towards).clamp_min(0)
        seen += cosine * lit_from(towards, xyz, triangles, xyz + 0.002 * normals)
        possible += cosine
    return seen / possible


def lit_from(towards: Tensor, xyz: Tensor, triangles: Tensor, points: Tensor) -> Tensor:
    """Whether light from a far direction (3,) reaches points (P, 3) on a mesh: (P,) 0 or 1.

    A shadow map (Williams 1978, "Casting curved shadows on curved surfaces").
    """
    size, distance, tolerance = 256, 20.0, 0.003  # px, m, m
    up = towards.new_tensor([0.0, 0.0, 1.0] if towards[2].abs() < 0.9 else [1.0, 0.0, 0.0])
    x = F.normalize(torch.linalg.cross(up, towards), dim=-1)
    R = torch.stack([x, torch.linalg.cross(-towards, x), -towards])
    # The torso reaches far below; only what may shade the head and neck counts.
    low, high = points.aminmax(dim=0)
    middle = 0.5 * (low + high)
    radius = 0.5 * float((high - low).norm()) + 1e-3
    focal = 0.5 * size * distance / radius
    centre = 0.5 * (size - 1)
    camera = Camera.from_K([focal, 0, centre, 0, focal, centre, 0, 0, 1], size, size)
    camera = camera.to(xyz.device)
    offset = towards.new_tensor([0, 0, distance])
    seen = rasterize(((xyz - middle) @ R.mT + offset)[None], triangles, camera)
    place = (points - middle) @ R.mT + offset
    depth = xyz.new_full((size * size,), torch.inf)
    depth[seen.pixel] = seen.interpolate(((xyz - middle) @ R.mT + offset)[:, 2:], triangles)[:, 0]
    uv = camera.project(place.double()).uv.round().long().clamp(0, size - 1)
    return (place[:, 2] < depth[uv[:, 1] * size + uv[:, 0]] + tolerance).float()
