"""Which network looks at which face."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import POINTS as MESH_POINTS
from face_pose_ros.keypoints.predictor import KeypointPredictor, unmeasured
from face_pose_ros.keypoints.semantic_predictor import FACE_MESH_INDEX, SemanticPredictor
from face_pose_ros.keypoints.semantic_predictor import POINTS as HEAD_POINTS
from face_pose_ros.types import Faces, Keypoints, Readings

# auto: both networks measure a new face; a known one is measured by those whose turn it is.
KEYPOINT_NETWORKS = ('face_mesh', 'hourglass', 'auto')


class KeypointReader:
    """Asks Face Mesh, the hourglass, or for each face the ones that are good at it."""

    def __init__(self, mesh: KeypointPredictor | None, head: SemanticPredictor | None) -> None:
        """Take one of the predictors, or both to choose from."""
        self.mesh = mesh
        self.head = head

    def predict(self, image: Tensor, faces: Faces, camera: Camera) -> Readings:
        """Measure proposed faces with every network; arguments as in `KeypointPredictor`."""
        count = len(faces)
        nothing = self.nothing(count, camera)
        return Readings(
            self.mesh.predict(image, faces, camera) if self.mesh else nothing.mesh,
            self.head.predict(image, faces, camera) if self.head else nothing.head,
        )

    def follow(self, image: Tensor, uv: Tensor, head_share: Tensor, camera: Camera) -> Readings:
        """Measure known faces.

        Args:
            image: (H, W, 3) uint8 RGB.
            uv: (N, 478, 2) px, where Face Mesh's points were a moment ago.
            head_share: (N,) in [0, 1], the weight of the hourglass's pose at the turn of these
                heads.
            camera: The image's camera, float64, on the image's device.
        """
        readings = self.nothing(len(uv), camera)
        if self.mesh:
            rows = (head_share < 1).nonzero()[:, 0] if self.head else torch.arange(len(uv))
            found = self.mesh.follow(image, uv[rows], camera)
            readings = replace(readings, mesh=_scattered(found, rows, readings.mesh))
        if self.head:
            rows = (head_share > 0).nonzero()[:, 0] if self.mesh else torch.arange(len(uv))
            face = uv[rows][:, FACE_MESH_INDEX]
            found = self.head.follow(image, face, camera)
            readings = replace(readings, head=_scattered(found, rows, readings.head))
        return readings

    @staticmethod
    def nothing(count: int, camera: Camera) -> Readings:
        """Of N faces that no network was asked for."""
        return Readings(
            unmeasured(count, MESH_POINTS, camera), unmeasured(count, HEAD_POINTS, camera)
        )


def _scattered(found: Keypoints, rows: Tensor, nothing: Keypoints) -> Keypoints:
    """The faces found in these rows, and nothing in the others."""
    return found if len(rows) == len(nothing) else nothing.replaced(rows, found)
