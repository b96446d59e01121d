# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The points of a face at which a depth image is read; src/ranges.hpp says how."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from face_pose_ros.pose.face_model import FaceModel, deformable_face

SURFACE_POINTS = 96  # spread evenly over the skin

# Of Face Mesh's points: eyes and lips move, and eyeballs and teeth are no skin.
_EYES_AND_LIPS = (
    *(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    *(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
)


def surface_of(model: FaceModel) -> FaceModel:
    """The skin's surface, with the modes of a model whose coefficients mean the same."""
    face = _surface()
    modes = np.zeros((len(model.mode_names), *face.xyz_head.shape))
    for m, name in enumerate(model.mode_names):
        if name in face.mode_names:
            modes[m] = face.modes[face.mode_names.index(name)]
    return replace(face, modes=modes, mode_names=model.mode_names)


@lru_cache(maxsize=1)
def _surface() -> FaceModel:
    """The deformable face at SURFACE_POINTS points of its skin, each far from all before it."""
    face = deformable_face()
    xyz = face.xyz_head
    nearest = np.linalg.norm(xyz - xyz.mean(0), axis=1).max() * np.ones(len(xyz))
    nearest[list(_EYES_AND_LIPS)] = 0
    chosen = [4]  # the tip of the nose
    for _ in range(SURFACE_POINTS - 1):
        nearest = np.minimum(nearest, np.linalg.norm(xyz - xyz[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return face.at(chosen)
