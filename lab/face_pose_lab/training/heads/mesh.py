# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Meshes in the head frame, and their materials."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


Rgb = tuple[float, float, float]


def rgb(colour: NDArray[np.floating]) -> Rgb:
    """A colour (3,) as numbers."""
    r, g, b = (float(x) for x in colour)
    return r, g, b


def vector(*values: float) -> Floats:
    """Numbers as float32, so that meshes stay so."""
    return np.array(values, np.float32)


def unit(x: NDArray[np.floating]) -> NDArray:
    """Vectors (..., 3) at length 1."""
    return np.asarray(x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-12))


class Layer(enum.IntEnum):
    """Effect of a part on the visibility of keypoints."""

    BODY = 0  # skin and clothes: keypoints lie on it, and it hides those behind
    COVER = 1  # hair and headwear: keypoints below are covered but not hidden
    OBJECT = 2  # anything else that hides the head
    DETAIL = 3  # what hides nothing of the skin: brows, lashes, eyes, teeth, frames of glasses


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the head frame, m."""

    xyz: Floats  # (V, 3)
    normals: Floats  # (V, 3) unit
    uv: Floats  # (V, 2) texture coordinates, v upwards
    triangles: Ids  # (F, 3)
    # (V, 3): share of the head in the motion of the neck; beard; hair's roots. All in [0, 1].
    shares: Floats


@dataclass(frozen=True)
class Material:
    """Material of a surface; colours are linear RGB."""

    texture: str = 'white'  # name of a texture of the renderer
    tint: Rgb = (1.0, 1.0, 1.0)  # factor on the texture
    saturation: float = 1.0  # of the texture
    darker: float = 0.0  # how much more contrast the texture has: 1 raises its exponent by half
    gloss: float = 0.05
    shininess: float = 12.0  # Blinn-Phong exponent
    two_sided: bool = False
    grain: float = 0.0  # relative amplitude of a fine pattern
    beard: float = 0.0  # how dense
    scalp: float = 0.0  # how densely the hair's roots cover the skin
    hair: Rgb = (0.0, 0.0, 0.0)  # colour of beard and roots


@dataclass(frozen=True)
class Part:
    """A mesh with its material."""

    mesh: Mesh
    material: Material
    layer: Layer = Layer.BODY


@dataclass(frozen=True)
class Person:
    """A head with all it wears, in its own head frame."""

    parts: tuple[Part, ...]
    keypoints: NDArray[np.float64]  # (K, 3) m, in the order of keypoints.NAMES
    normals: NDArray[np.float64]  # (K, 3) unit, of the skin there
    skin: Rgb  # mean albedo of the skin, linear RGB
    family: int
    identity: int
    neck: NDArray[np.float64] = field(default_factory=lambda: np.array([-0.11, 0.0, -0.13]))


class Topology:
    """Vertices and triangles of a mesh whose texture coordinates have seams.

    Positions are given per point; the drawn mesh has one vertex per pair of a point and a texture
    coordinate.
    """

    def __init__(self, triangles: Ids, triangles_uv: Ids, uv: Floats, points: int) -> None:
        pairs = np.stack([triangles.ravel(), triangles_uv.ravel()], 1)
        unique, index = np.unique(pairs, axis=0, return_inverse=True)
        self.point = unique[:, 0]  # (V,) of each drawn vertex
        self.uv = uv[unique[:, 1]].astype(np.float32)
        self.triangles = index.reshape(-1, 3)
        self.triangles_points = triangles
        self._of_point = _incidence(triangles, points)

    def remapped(self, new_index: Ids, points: int) -> Topology:
        """The same triangles after point i has become new_index[i], of `points` in all."""
        other = Topology.__new__(Topology)
        other.point, other.uv, other.triangles = new_index[self.point], self.uv, self.triangles
        other.triangles_points = new_index[self.triangles_points]
        other._of_point = _incidence(other.triangles_points, points)
        return other

    def mesh(self, xyz: Floats, shares: Floats) -> Mesh:
        """The drawn mesh of points (P, 3) with shares (P, 3)."""
        normals = self.point_normals(xyz)
        return Mesh(
            xyz[self.point], normals[self.point], self.uv, self.triangles, shares[self.point]
        )

    def point_normals(self, xyz: Floats) -> Floats:
        """Unit normals (P, 3), area-weighted means over the triangles around each point."""
        a, b, c = (xyz[self.triangles_points[:, i]] for i in range(3))
        normals = self._of_point @ np.cross(b - a, c - a)
        return unit(normals)


def _incidence(triangles: Ids, points: int) -> sparse.csr_matrix:
    """(points, F), 1 where a point is a corner of a triangle."""
    face = np.tile(np.arange(len(triangles)), 3)
    ones = np.ones(len(face), np.float32)
    return sparse.csr_matrix((ones, (triangles.T.ravel(), face)), (points, len(triangles)))
