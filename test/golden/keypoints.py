# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints of golden frames, and the solver's answers to them: no network has a part in it.

keypoints.npz holds what Face Mesh and the hourglass measured of 25 faces, rounded to float32, and
for every case below the poses, covariances and shapes of N faces, each fitted on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name('keypoints.npz')
COEFFICIENTS = 18
# Options of fits to Face Mesh's points: it does not predict which of them are visible.
FACE_MESH: dict[str, Any] = {'visibility': True, 'independent_keypoints': 6.0}
Array = NDArray[np.float64]


class Case(NamedTuple):
    """Arguments of `fit_pose` for one face."""

    name: str
    face: int
    model: str  # 'face' or 'head'
    lens: str  # a key of `frames.LENSES`
    uv: Array  # (K, 2) px
    cov_uv: Array  # (K, 2, 2) px^2
    options: dict[str, Any]  # of `PoseOptions`
    T_init: Array | None = None  # (4, 4)
    prior: tuple[Array, Array] | None = None  # mean (C,), information (C, C)


class Answers(NamedTuple):
    """Of M cases, in their order."""

    T_cam_head: Array  # (M, 4, 4) m
    covariance: Array  # (M, 6, 6)
    shape: Array  # (M, C)
    stop: NDArray[np.int64]  # (M,)


def cases() -> Iterator[Case]:
    """All cases."""
    with np.load(FILE) as file:
        lenses = file['lens'].tolist()
        mesh, mesh_cov = file['mesh_uv'].astype(float), _matrices(file['mesh_cov'])
        head, head_cov = file['head_uv'].astype(float), _matrices(file['head_cov'])
    for i, lens in enumerate(lenses):
        mesh_only = i, 'face', lens, mesh[i], mesh_cov[i]
        yield Case('mesh', *mesh_only, FACE_MESH)
        few = {'independent_keypoints': 2.5}
        yield Case('head', i, 'head', lens, head[i], head_cov[i], few)
        kernel = ('none', 'huber', 'cauchy', 'geman_mcclure')[i % 4]
        yield Case('kernels', *mesh_only, FACE_MESH | {'kernel': kernel, 'visibility': i % 3 == 0})
        T = np.eye(4)
        T[:3, :3] = [[0, 1, 0], [0, 0, -1], [-1, 0, 0]]
        T[:3, 3] = 0.02, -0.03, 0.9
        yield Case('start', *mesh_only, FACE_MESH, T)
        mean = 0.1 * np.cos(np.arange(COEFFICIENTS) + i)
        information = np.diag(1.5 + np.sin(np.arange(COEFFICIENTS) * (i + 1)))
        information[3:6, 3:6] += 0.2
        yield Case(
            'prior', *mesh_only, FACE_MESH | {'interpupillary_mm': 60.0}, None, (mean, information)
        )
        moved = mesh[i].copy()
        moved[40 + 3 * i : 190 + 3 * i] += 23.0, -31.0
        yield Case('outliers', i, 'face', lens, moved, mesh_cov[i], FACE_MESH)
        sparse = mesh_cov[i].copy()
        sparse[(np.arange(len(sparse)) + i) % 19 > 0] = np.inf
        yield Case('sparse', i, 'face', lens, mesh[i], sparse, FACE_MESH)


def _matrices(upper: NDArray[np.float32]) -> Array:
    """(..., 2, 2) of their elements xx, xy, yy (..., 3)."""
    return upper[..., [0, 1, 1, 2]].reshape(*upper.shape[:-1], 2, 2).astype(float)


def load_answers() -> Answers:
    """Those of the repository."""
    with np.load(FILE) as file:
        return Answers(*(file[name] for name in Answers._fields))
