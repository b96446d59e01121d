"""3-D keypoints of the head in the head frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from face_pose_ros.weights import load_weights


@dataclass(frozen=True)
class FaceModel:
    """Points of a mean face in the head frame.

    Head frame (REP-155): origin at the sellion, x out of the face, y to the person's left, z up.
    """

    xyz_head: Tensor  # (K, 3) float64, m
    triangles: Tensor  # (T, 3) int64, indices into xyz_head, for drawing


def canonical_face(device: torch.device | str = 'cpu') -> FaceModel:
    """The canonical face of MediaPipe: the first 468 keypoints of Face Mesh V2 (no irises)."""
    weights = load_weights('canonical_face')
    return FaceModel(
        xyz_head=weights['xyz_head'].to(device, torch.float64),
        triangles=weights['triangles'].to(device, torch.int64),
    )
