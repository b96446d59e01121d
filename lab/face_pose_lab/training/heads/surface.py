# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points of a skin: three vertices and barycentric weights each, so that they move with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.floating]
Ids = NDArray[np.int64]

_ROUNDING = 1e-7


@dataclass(frozen=True)
class SurfacePoints:
    """P points of a mesh."""

    vertices: Ids  # (P, 3)
    weights: NDArray[np.float64]  # (P, 3), sums 1

    def of(self, xyz: Floats) -> NDArray[np.float64]:
        """(P, 3) places on a mesh with vertices (V, 3)."""
        return np.asarray((xyz[self.vertices] * self.weights[..., None]).sum(1), np.float64)

    def remapped(self, new_index: Ids) -> SurfacePoints:
        """The same points after vertex i has become new_index[i]."""
        return SurfacePoints(new_index[self.vertices], self.weights)


def joined(*points: SurfacePoints) -> SurfacePoints:
    """All points in a row."""
    return SurfacePoints(
        np.concatenate([p.vertices for p in points]), np.concatenate([p.weights for p in points])
    )


def at_vertices(vertices: Ids) -> SurfacePoints:
    """Points that are vertices."""
    weights = np.zeros((len(vertices), 3))
    weights[:, 0] = 1
    return SurfacePoints(np.repeat(np.asarray(vertices, np.int64)[:, None], 3, 1), weights)


def ray_distances(origin: Floats, direction: Floats, corners: Floats) -> tuple[Floats, Floats]:
    """Intersections of rays with triangles (Möller and Trumbore 1997).

    Args:
        origin: (..., 3), broadcast against the triangles.
        direction: (..., 3).
        corners: (..., 3, 3) the triangles' corners.

    Returns:
        Distances (...,) in lengths of the direction, infinite where the ray misses, and the
        barycentric weights (..., 3) of the meeting points.
    """
    a, b, c = (np.asarray(corners[..., i, :], np.float64) for i in range(3))
    p = np.cross(direction, c - a)
    determinant = ((b - a) * p).sum(-1)
    with np.errstate(divide='ignore', invalid='ignore'):
        s = origin - a
        v = (s * p).sum(-1) / determinant
        q = np.cross(s, b - a)
        w = (direction * q).sum(-1) / determinant
        distance = ((c - a) * q).sum(-1) / determinant
        weights = np.stack([1 - v - w, v, w], -1)
    # A ray through an edge meets one of its triangles, whatever the rounding.
    meets = (weights >= -_ROUNDING).all(-1) & (distance > 0)
    return np.where(meets, distance, np.inf), weights


def leaving_points(
    origin: Floats, directions: Floats, xyz: Floats, triangles: Ids
) -> SurfacePoints:
    """Outermost intersections of rays from inside a mesh.

    Args:
        origin: (3,) start of the rays.
        directions: (P, 3) of the rays.
        xyz: (V, 3) vertices.
        triangles: (F, 3).

    Raises:
        ValueError: A ray meets no triangle.
    """
    vertices, weights = [], []
    for direction in directions:
        distance, barycentric = ray_distances(origin, direction, xyz[triangles])
        distance[np.isinf(distance)] = -1
        last = int(distance.argmax())
        if distance[last] < 0:
            raise ValueError(f'the ray {direction} meets no triangle')
        vertices.append(triangles[last])
        weights.append(barycentric[last])
    return SurfacePoints(np.array(vertices), np.array(weights, np.float64))


def nearest_points(
    places: Floats, normals: Floats, xyz: Floats, triangles: Ids, candidates: int = 40
) -> tuple[SurfacePoints, Floats]:
    """The nearest point of a skin to each place, and how far it is.

    Args:
        places: (P, 3).
        normals: (P, 3) roughly the skin's there: what faces elsewhere is another part of it.
        xyz: (V, 3) vertices of the skin.
        triangles: (F, 3).
        candidates: How many triangles to try.
    """
    corners = np.asarray(xyz[triangles], np.float64)
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.linalg.norm(facing, axis=1, keepdims=True) + 1e-15
    near = cKDTree(corners.mean(1)).query(places, candidates)[1]  # (P, C)
    a, b, c = (corners[near][:, :, i] for i in range(3))
    edges = np.stack([b - a, c - a], -2)
    gram = edges @ edges.swapaxes(-1, -2)
    vw = np.linalg.solve(gram, (edges @ (places[:, None] - a)[..., None]))[..., 0]
    weights = np.concatenate([1 - vw.sum(-1, keepdims=True), vw], -1).clip(0, None)
    weights /= weights.sum(-1, keepdims=True)
    found = (weights[..., None] * np.stack([a, b, c], -2)).sum(-2)
    distance = np.linalg.norm(found - places[:, None], axis=-1)
    cost = distance + ((facing[near] * normals[:, None]).sum(-1) < 0.3)
    rows, best = np.arange(len(places)), cost.argmin(1)
    triangle = near[rows, best]
    return SurfacePoints(triangles[triangle], weights[rows, best]), distance[rows, best]
