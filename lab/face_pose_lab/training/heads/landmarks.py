# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoints on the mean head of a family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from face_pose_lab.training.heads.mesh import Floats, Ids
from face_pose_lab.training.heads.surface import (
    SurfacePoints,
    at_vertices,
    joined,
    leaving_points,
)
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.semantic import Ear, EarPoint, FaceMeshPoint, SkullPoint

_NASAL_ROOT_M = 0.017  # half the height within which the sellion is looked for


def sellion_on(xyz: Floats, triangles: Ids, face: SurfacePoints) -> SurfacePoints:
    """Deepest midline point of the nasal root.

    Args:
        xyz: (V, 3) the mean head in axes of the head frame, its origin anywhere, m.
        triangles: (F, 3) of the skin.
        face: Face Mesh's 468 points on it.
    """
    places = face.of(xyz)
    root = places[168]  # between the eyes
    near = np.linalg.norm(xyz[triangles].mean(1) - root, axis=1) < 0.05
    heights = np.linspace(-_NASAL_ROOT_M, _NASAL_ROOT_M, 69)
    candidates = [
        leaving_points(
            root + np.array([-0.03, 0, z]), np.array([[1.0, 0, 0]]), xyz, triangles[near]
        )
        for z in heights
    ]
    depth = [float(c.of(xyz)[0, 0]) for c in candidates]
    return candidates[int(np.argmin(depth))]


def keypoints_on(xyz: Floats, triangles: Ids, face: SurfacePoints, ears: Ids) -> SurfacePoints:
    """All keypoints, in the order of semantic.NAMES.

    Args:
        xyz: (V, 3) the mean head in the head frame, m.
        triangles: (F, 3) of the skin.
        face: Face Mesh's 468 points on it.
        ears: (4,) vertices of the landmarks of the left ear, in the order of `Ear`.
    """
    order = list(Ear)
    tree = cKDTree(xyz)
    right_ears = tree.query(xyz[ears] * (1, -1, 1))[1]
    points = []
    for definition in semantic.DEFINITIONS.values():
        if isinstance(definition, FaceMeshPoint):
            i = definition.index
            points.append(SurfacePoints(face.vertices[i : i + 1], face.weights[i : i + 1]))
        elif isinstance(definition, EarPoint):
            side: NDArray = ears if definition.left else right_ears
            points.append(at_vertices(side[[order.index(definition.landmark)]]))
        elif isinstance(definition, SkullPoint):
            centre = np.array(semantic.SKULL_CENTRE)
            points.append(leaving_points(centre, definition.direction[None], xyz, triangles))
    return joined(*points)
