# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The deformable face: mean and modes of the keypoints in the head frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.weights import load_weights

Array = NDArray[np.float64]

# Adults' interpupillary distance is 63 +- 3.5 mm: the scale of the mean face, and its spread.
MEAN_INTERPUPILLARY_M = 0.063
INTERPUPILLARY_SIGMA_M = 0.0035


@dataclass(frozen=True, eq=False)
class FaceModel:
    """Shape (1 + size_sigma c_0) (B0 + sum_i c_i B_i) of K keypoints (Pavlakos et al. 2017).

    Head frame (REP-155): origin at the sellion, x out of the face, y to the person's left, z up.
    The coefficients c are in prior standard deviations: over people and expressions each is N(0,
    1). c_0 is the size, which one camera cannot measure: a larger head farther away gives the same
    image. 'identity_*' are people of one size; all others are expressions.

    The relative size of an adult's face, 1 on average, follows the interpupillary distance d:
    its mean is 1 + size_per_m (d - 63 mm), its standard deviation size_sigma_given_pupils.
    """

    xyz_head: Array  # (K, 3) m: the mean B0
    modes: Array  # (M, K, 3) m per prior standard deviation: the B_i
    mode_names: tuple[str, ...]  # (M,)
    size_per_m: float
    size_sigma_given_pupils: float  # 0, as size_per_m: the size is known
    normals: Array  # (K, 3) unit, out of the head
    triangles: NDArray[np.int64]  # (T, 3) indices into xyz_head, counter-clockwise from outside

    @property
    def size_sigma(self) -> float:
        """Relative standard deviation of the size over adults."""
        return math.hypot(self.size_per_m * INTERPUPILLARY_SIGMA_M, self.size_sigma_given_pupils)

    @property
    def shape_names(self) -> tuple[str, ...]:
        """Names of the C = 1 + M shape coefficients."""
        return ('size', *self.mode_names)

    @property
    def is_expression(self) -> tuple[bool, ...]:
        """Mask (C,) of the expression coefficients."""
        return tuple(not name.startswith(('size', 'identity')) for name in self.shape_names)

    def points(self, shape: Array) -> Array:
        """(N, K, 3) points [m] of shapes (N, C)."""
        scale = 1 + self.size_sigma * shape[:, 0]
        # Not by BLAS, whose threads spin for 25 ms after a product of this size.
        deviation = np.einsum('nc,ckx->nkx', shape[:, 1:], self.modes)
        return scale[:, None, None] * (self.xyz_head + deviation)

    def keep(self, *prefixes: str) -> FaceModel:
        """The face with only the shape coefficients whose names have these prefixes."""
        kept = [i for i, name in enumerate(self.mode_names) if name.startswith(prefixes)]
        face = replace(
            self, modes=self.modes[kept], mode_names=tuple(self.mode_names[i] for i in kept)
        )
        if 'size'.startswith(prefixes):
            return face
        return replace(face, size_per_m=0.0, size_sigma_given_pupils=0.0)

    def every(self, stride: int) -> FaceModel:
        """The face with every stride-th keypoint; the triangles are unchanged."""
        return self.at(slice(None, None, stride))

    def at(self, index: slice | list[int]) -> FaceModel:
        """The face with some of the keypoints; the triangles are unchanged."""
        return replace(
            self,
            xyz_head=self.xyz_head[index],
            modes=self.modes[:, index],
            normals=self.normals[index],
        )


def deformable_face() -> FaceModel:
    """The project's own model of Face Mesh's 468 keypoints; see weights/face_model.md."""
    weights = load_weights('face_model')
    expressions = [name for name in sorted(weights) if name.startswith('expression.')]
    identities = weights['identity_modes']
    modes = np.concatenate([identities, *[weights[name][None] for name in expressions]])
    names = [f'identity_{i + 1}' for i in range(len(identities))]
    names += [name.removeprefix('expression.') for name in expressions]
    return _build(weights, modes, tuple(names))


def semantic_head() -> FaceModel:
    """The same shapes at the K = 86 semantic keypoints, ears and skull included.

    Coefficients are those of `deformable_face`; see weights/semantic_head.md.
    """
    face, weights = deformable_face(), load_weights('semantic_head')
    index = weights['face_mesh_index']
    is_face = index >= 0
    xyz_head, modes = face.xyz_head[index], face.modes[:, index]
    xyz_head[~is_face] = weights['xyz_head']
    modes[:, ~is_face] = weights['modes']
    return replace(
        face,
        xyz_head=xyz_head,
        modes=modes,
        normals=_unit(xyz_head - xyz_head.mean(0)),
        triangles=face.triangles[:0],
    )


def canonical_face() -> FaceModel:
    """MediaPipe's canonical face: the same 468 keypoints, one shape and a variable size."""
    weights = load_weights('canonical_face')
    return _build(weights, np.zeros((0, *weights['xyz_head'].shape)), ())


def _build(weights: dict[str, NDArray], modes: NDArray, mode_names: tuple[str, ...]) -> FaceModel:
    xyz_head = weights['xyz_head'].astype(np.float64)
    triangles = weights['triangles'].astype(np.int64)
    size_per_m, size_sigma_given_pupils = load_weights('face_model')['size'].tolist()
    return FaceModel(
        xyz_head=xyz_head,
        modes=modes.astype(np.float64),
        mode_names=mode_names,
        size_per_m=size_per_m,
        size_sigma_given_pupils=size_sigma_given_pupils,
        normals=_vertex_normals(xyz_head, triangles),
        triangles=triangles,
    )


def _vertex_normals(xyz: Array, triangles: NDArray[np.int64]) -> Array:
    """(K, 3) unit normals, each the area-weighted mean over the vertex's triangles."""
    a, b, c = np.moveaxis(xyz[triangles], 1, 0)
    of_triangle = np.cross(b - a, c - a)
    normals = np.zeros_like(xyz)
    for corner in triangles.T:
        np.add.at(normals, corner, of_triangle)
    return _unit(normals)


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
