# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Solids whose geometry is known in closed form."""

import numpy as np
from face_pose_lab.training.heads.mesh import Layer, Material, Mesh, Part, Person
from face_pose_lab.training.heads.surface import SurfacePoints


def ellipsoid(radii, meridians=48, parallels=25):
    """Vertices (V, 3) and triangles (F, 3) about the origin, counter-clockwise from outside."""
    polar = np.linspace(0, np.pi, parallels)[:, None]
    turn = np.linspace(0, 2 * np.pi, meridians, endpoint=False)[None]
    unit = np.stack(
        [
            np.sin(polar) * np.cos(turn),
            np.sin(polar) * np.sin(turn),
            np.cos(polar) + 0 * turn,
        ],
        -1,
    )
    index = np.arange(parallels * meridians).reshape(parallels, meridians)
    after = np.roll(index, -1, 1)
    a, b, c, d = (x.ravel() for x in (index[:-1], index[1:], after[1:], after[:-1]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return unit.reshape(-1, 3) * radii, triangles


def part(xyz, triangles, layer=Layer.BODY, **material):
    """A part of a person with rough normals; it moves with the head."""
    normals = xyz - xyz.mean(0)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    shares = np.tile(np.float32([1, 0, 0]), (len(xyz), 1))
    mesh = Mesh(
        xyz.astype(np.float32),
        normals.astype(np.float32),
        np.zeros((len(xyz), 2), np.float32),
        triangles,
        shares,
    )
    return Part(mesh, Material(**material), layer)


def random_points(xyz, triangles, count, rng):
    """Points on a mesh."""
    chosen = triangles[rng.integers(len(triangles), size=count)]
    return SurfacePoints(chosen, rng.dirichlet([1, 1, 1], count))


def person(parts, keypoints, normals):
    """A body made of parts."""
    return Person(tuple(parts), keypoints, normals, (0.5, 0.5, 0.5), 0, 0)
