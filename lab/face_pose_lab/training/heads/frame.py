# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The head frame of a mesh, from the packaged face model.

The axes of a head are those of the packaged model's mean face when that face is laid onto the
head's own 468 points (Procrustes with scale, Umeyama 1991). The origin is the head's own sellion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.similarity import similarity
from face_pose_ros.pose.face_model import deformable_face

Array = NDArray[np.float64]


def mean_face() -> Array:
    """(468, 3) m, the mean of the packaged face model."""
    return deformable_face().xyz_head


@dataclass(frozen=True)
class HeadFrame:
    """Maps a mesh's own frame to the head frame."""

    R_head_mesh: Array  # (3, 3)
    origin: Array  # (3,) of the head frame, in the mesh's frame and unit
    scale: float  # m per unit of the mesh

    def apply(self, xyz: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points (..., 3) of the mesh's frame in the head frame, m."""
        matrix = (self.scale * self.R_head_mesh.T).astype(np.float32)
        return (xyz - self.origin).astype(np.float32) @ matrix


def head_frame(face: NDArray[np.floating], sellion: Array, scale: float, mean: Array) -> HeadFrame:
    """Frame of a head whose 468 points `face` (468, 3) and sellion (3,) lie in the mesh's frame.

    Args:
        face: (468, 3) of the neutral head.
        sellion: (3,) of the same head.
        scale: m per unit of the mesh.
        mean: `mean_face()`.
    """
    _, R_mesh_head, _ = similarity(mean, np.asarray(face, np.float64))
    return HeadFrame(R_mesh_head.T, sellion, scale)
