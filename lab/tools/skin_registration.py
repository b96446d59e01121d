# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points of ICT-FaceKit's skin, and how a face of other topology is laid onto it.

The registration is a non-rigid ICP in the spirit of Amberg et al. 2007, "Optimal Step Nonrigid ICP
Algorithms for Surface Registration": nearest points, then a stiff least-squares step, ever softer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from face_pose_lab.similarity import similarity
from face_pose_lab.synthetic.ict_facekit import IctFaceKit, Part
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Ids = NDArray[np.int64]

# (stiffness of the canonical face's edges, pull of a landmark), both against a pull of 1 per point
# towards the skin: from nearly rigid to soft, as Amberg et al. do.
SCHEDULE = ((50, 20), (20, 10), (10, 5), (5, 3), (2, 2), (1, 1), (0.5, 1), (0.2, 0.5))


def mirrored(xyz: Array) -> Array:
    """Points (..., 3) mirrored at the head's midplane."""
    return xyz * np.array([1.0, -1.0, 1.0])


def mirror_partners(xyz: Array) -> Ids:
    """(K,) index of the point nearest to each one's mirror image."""
    return np.asarray(cKDTree(xyz).query(mirrored(xyz))[1], np.int64)


def rms(x: Array) -> float:
    """Root mean square length of vectors (..., D)."""
    return float(np.sqrt((x**2).sum(-1).mean()))


def triangle_normals(xyz: Array, triangles: Ids) -> Array:
    """(T, 3) normals, as long as twice the triangle's area."""
    a, b, c = xyz[triangles].swapaxes(0, 1)
    return np.cross(b - a, c - a)


def unit(x: Array) -> Array:
    """Vectors (..., 3) at length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def vertex_normals(xyz: Array, triangles: Ids) -> Array:
    """(V, 3) unit normals, area-weighted means of the neighbouring triangles'."""
    normals = np.zeros_like(xyz)
    np.add.at(normals, triangles, triangle_normals(xyz, triangles)[:, None])
    return unit(normals)


@dataclass(frozen=True)
class SkinPoints:
    """Points of the skin."""

    vertices: Ids  # (K, 3) of ICT-FaceKit
    barycentric: Array  # (K, 3), sums 1

    def of(self, vertices: NDArray[np.floating]) -> Array:
        """(..., K, 3) the points on heads (..., V, 3)."""
        corners = vertices[..., self.vertices, :].astype(np.float64)
        return np.einsum('...kcx,kc->...kx', corners, self.barycentric)


class Skin:
    """The mean head's skin, and the nearest points on it."""

    def __init__(self, facekit: IctFaceKit) -> None:
        self.xyz = facekit.neutral.astype(np.float64)
        self.triangles = facekit.triangles[facekit.triangle_part == Part.FACE]
        self.normals = unit(triangle_normals(self.xyz, self.triangles))
        self.centroids = cKDTree(self.xyz[self.triangles].mean(1))
        face = np.arange(self.triangles.max() + 1)
        self.partner = mirror_partners(self.xyz[face])
        edges = edges_of(self.triangles)
        self.midline = edges[(np.abs(self.xyz[edges, 1]) < 1e-6).all(1)]

    def nearest(self, points: Array, normals: Array) -> tuple[SkinPoints, Array]:
        """Nearest points whose normal is within 60 deg of the given one; (K,) triangles."""
        _, near = self.centroids.query(points, 60)
        corners = self.xyz[self.triangles[near]]  # (K, 60, 3, 3)
        weights = nearest_in_triangles(points[:, None], corners)
        distance = np.linalg.norm((weights[..., None] * corners).sum(2) - points[:, None], axis=2)
        distance[(self.normals[near] * normals[:, None]).sum(-1) < 0.5] += 1.0  # m: last resort
        rows = np.arange(len(points))
        best = distance.argmin(1)
        triangle = near[rows, best]
        return SkinPoints(self.triangles[triangle], weights[rows, best]), triangle

    def symmetric(self, points: SkinPoints, partner: Ids) -> SkinPoints:
        """The same points with the left half replaced by the right one's mirror image."""
        xyz = points.of(self.xyz)
        vertices, weights = points.vertices.copy(), points.barycentric.copy()
        left = xyz[:, 1] > 0
        vertices[left] = self.partner[vertices[partner[left]]]
        weights[left] = weights[partner[left]]
        start, end = self.xyz[self.midline].swapaxes(0, 1)
        for k in np.flatnonzero(partner == np.arange(len(partner))):  # the midline stays on edges
            u = nearest_on_segments(xyz[k], start, end)
            gap = np.linalg.norm(start + u[:, None] * (end - start) - xyz[k], axis=1)
            edge = gap.argmin()
            vertices[k] = self.midline[edge][[0, 1, 1]]
            weights[k] = 1 - u[edge], u[edge], 0.0
        return SkinPoints(vertices, weights)


def edges_of(triangles: Ids) -> Ids:
    """(E, 2) edges, each once."""
    return np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1), axis=0)


def nearest_on_segments(p: Array, start: Array, end: Array) -> Array:
    """(...,) position in [0, 1] along segments of the point nearest to p."""
    along = end - start
    return np.clip(((p - start) * along).sum(-1) / (along**2).sum(-1), 0, 1)


def nearest_in_triangles(p: Array, corners: Array) -> Array:
    """(..., 3) barycentric coordinates of the points of triangles (..., 3, 3) nearest to p."""
    a, b, c = np.moveaxis(corners, -2, 0)
    gram = np.stack([b - a, c - a], -2)
    uv = np.linalg.solve(gram @ gram.swapaxes(-1, -2), (gram @ (p - a)[..., None]))[..., 0]
    plane = np.concatenate([1 - uv.sum(-1, keepdims=True), uv], -1)
    options = []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        u = nearest_on_segments(p, corners[..., i, :], corners[..., j, :])
        option = np.zeros_like(plane)
        option[..., i], option[..., j] = 1 - u, u
        options.append(option)
    edges = np.stack(options)
    distance = (((edges[..., None] * corners).sum(-2) - p) ** 2).sum(-1)
    edge = np.take_along_axis(edges, distance.argmin(0)[None, ..., None], 0)[0]
    return np.where((plane >= 0).all(-1, keepdims=True), plane, edge)


def register(face: Array, triangles: Ids, skin: Skin, landmarks: dict[int, Array]) -> SkinPoints:
    """Lay the canonical face onto the skin.

    Args:
        face: (K, 3) canonical face, m.
        triangles: (T, 3) of it.
        skin: where to.
        landmarks: keypoint -> (3,) known place, m.
    """
    keys = list(landmarks)
    goal = np.array([landmarks[k] for k in keys])
    s, R, t = similarity(face[keys], goal)
    start = s * face @ R.T + t
    edges = edges_of(triangles)
    rows = np.arange(len(edges))
    difference = sparse.csr_matrix(
        (np.repeat([1.0, -1.0], len(edges)), (np.r_[rows, rows], edges.T.ravel())),
        (len(edges), len(face)),
    )
    laplacian = sparse.kron(difference.T @ difference, np.eye(3))
    xyz = start
    for stiffness, pull in SCHEDULE:
        for _ in range(5):
            near, triangle = skin.nearest(xyz, vertex_normals(xyz, triangles))
            n = skin.normals[triangle]
            # Point to plane, and a little point to point, so that nothing slides for free.
            H = n[:, :, None] * n[:, None, :] + 0.05 * np.eye(3)
            g = np.einsum('kij,kj->ki', H, near.of(skin.xyz) - start)
            H[keys] += pull * np.eye(3)
            g[keys] += pull * (goal - start[keys])
            system = sparse.block_diag(list(H)) + stiffness * laplacian
            xyz = start + spsolve(system.tocsc(), g.ravel()).reshape(-1, 3)
    return skin.nearest(xyz, vertex_normals(xyz, triangles))[0]
