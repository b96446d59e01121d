"""Drawing a measured head into the picture it was measured in."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel

_AXIS_M = 0.1
_AXIS_COLOURS_BGR = ((60, 60, 230), (60, 200, 60), (230, 120, 40))  # x, y, z as in RViz


def draw_head(
    picture_bgr: NDArray[np.uint8],
    T_cam_head: NDArray[np.float64],
    camera: Camera,
    model: FaceModel,
) -> None:
    """Draw the face model's mesh and the head's axes, through the lens, in place.

    Args:
        picture_bgr: (H, W, 3) uint8.
        T_cam_head: (4, 4) m.
        camera: The picture's camera.
        model: The mesh.
    """
    axes = np.vstack([np.zeros(3), _AXIS_M * np.eye(3)])
    mesh_uv, mesh_seen = _project(model.xyz_head.numpy(), T_cam_head, camera)
    axes_uv, axes_seen = _project(axes, T_cam_head, camera)
    triangles = model.triangles.numpy()
    seen = mesh_seen[triangles].all(1) & (_signed_area(mesh_uv[triangles]) < 0)
    shift = 4  # sixteenths of a pixel
    lines = np.round(mesh_uv[triangles[seen]] * 2**shift).astype(np.int32)
    overlay = picture_bgr.copy()
    cv2.polylines(overlay, list(lines), True, (235, 235, 200), 1, cv2.LINE_AA, shift)
    cv2.addWeighted(overlay, 0.45, picture_bgr, 0.55, 0, picture_bgr)
    points = np.round(axes_uv * 2**shift).astype(np.int32)
    for i, colour in enumerate(_AXIS_COLOURS_BGR, start=1):
        if axes_seen[0] and axes_seen[i]:
            cv2.line(picture_bgr, points[0], points[i], colour, 2, cv2.LINE_AA, shift)


def draw_text(picture_bgr: NDArray[np.uint8], text: str, line: int) -> None:
    """Write one line of text at the top left, in place."""
    at = (10, 22 + 20 * line)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            picture_bgr, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA
        )


def _project(
    xyz_head: NDArray[np.float64], T_cam_head: NDArray[np.float64], camera: Camera
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    xyz_cam = xyz_head @ T_cam_head[:3, :3].T + T_cam_head[:3, 3]
    uv, valid, _ = camera.project(torch.from_numpy(xyz_cam))
    return uv.numpy(), valid.numpy()


def _signed_area(triangles_uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the signed area (T,) of triangles (T, 3, 2): its sign tells front from back."""
    a, b, c = triangles_uv.transpose(1, 0, 2)
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
