# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which network measures which face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import POINTS as MESH_POINTS
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.keypoints.semantic_predictor import FACE_MESH_INDEX, SemanticPredictor
from face_pose_ros.keypoints.semantic_predictor import POINTS as HEAD_POINTS
from face_pose_ros.results import Faces, Keypoints, Readings


class KeypointReader:
    """Runs Face Mesh, the hourglass, or both.

    Of both, a new face is measured by each, a tracked one by those that are good at its yaw
    relative to the line of sight.
    """

    def __init__(self, mesh: KeypointPredictor | None, head: SemanticPredictor | None) -> None:
        """Take one of the predictors, or both to choose from."""
        self.mesh = mesh
        self.head = head

    def predict(self, image: NDArray[np.uint8], faces: Faces, camera: Camera) -> Readings:
        """Measure proposed faces with every network; arguments as in `KeypointPredictor`."""
        nothing = self.nothing(len(faces))
        return Readings(
            self.mesh.predict(image, faces, camera) if self.mesh else nothing.mesh,
            self.head.predict(image, faces, camera) if self.head else nothing.head,
        )

    def follow(
        self,
        image: NDArray[np.uint8],
        uv: NDArray[np.float64],
        head_share: NDArray[np.float64],
        camera: Camera,
    ) -> Readings:
        """Measure tracked faces.

        Args:
            image: (H, W, 3) uint8 RGB.
            uv: (N, 478, 2) px, where Face Mesh's points were a moment ago.
            head_share: (N,) in [0, 1], the weight of the hourglass's pose at the turn of these
                heads.
            camera: The image's camera.
        """
        readings = self.nothing(len(uv))
        if len(uv) == 0:
            return readings
        if self.mesh:
            rows = np.flatnonzero(head_share < 1) if self.head else np.arange(len(uv))
            found = self.mesh.follow(image, uv[rows], camera)
            readings = replace(readings, mesh=_scattered(found, rows, readings.mesh))
        if self.head:
            rows = np.flatnonzero(head_share > 0) if self.mesh else np.arange(len(uv))
            found = self.head.follow(image, uv[rows][:, FACE_MESH_INDEX], camera)
            readings = replace(readings, head=_scattered(found, rows, readings.head))
        return readings

    @staticmethod
    def nothing(count: int) -> Readings:
        """N faces that no network measured."""
        return Readings(
            Keypoints.unmeasured(count, MESH_POINTS), Keypoints.unmeasured(count, HEAD_POINTS)
        )


def _scattered(found: Keypoints, rows: NDArray[np.intp], nothing: Keypoints) -> Keypoints:
    """The faces found in these rows, and nothing in the others."""
    return found if len(rows) == len(nothing) else nothing.replaced(rows, found)
