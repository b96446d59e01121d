"""Drawing a measured head into the picture it was measured in."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.results import FacePose

AXIS_M = 0.1
AXIS_COLOURS_RGB = ((230, 60, 60), (60, 200, 60), (40, 120, 230))  # x, y, z as in RViz
# Light, unlike skin and the axes; neighbours in the list are told apart at a glance.
_FACE_COLOURS_RGB = (
    (200, 235, 235),
    (90, 235, 255),
    (245, 240, 90),
    (240, 130, 235),
    (130, 245, 150),
    (165, 175, 255),
)
_MESH_OPACITY = 0.45
_SUBPIXEL_BITS = 4  # cv2 draws in sixteenths of a pixel
_TEXT_HEIGHT = 1 / 1440  # of the picture; below 720 px as at 720 px


def face_colour_rgb(number: int) -> tuple[int, int, int]:
    """The colour, 0 to 255, of the face with this `FacePose.number`."""
    return _FACE_COLOURS_RGB[number % len(_FACE_COLOURS_RGB)]


def face_label(face: FacePose) -> str:
    """Id and distance from the camera, as in 'f00001 1.23 m'."""
    return f'{face.id} {face.distance:.2f} m'.lstrip()


def face_points(model: FaceModel, shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, 3) points [m] of one shape (C,), in the head frame."""
    return model.points(shape[None])[0]


def draw_head(
    picture_bgr: NDArray[np.uint8],
    T_cam_head: NDArray[np.float64],
    camera: Camera,
    model: FaceModel,
    shape: NDArray[np.float64] | None = None,
    colour_rgb: tuple[int, int, int] = _FACE_COLOURS_RGB[0],
) -> None:
    """Draw the face's mesh and the head's axes, through the lens, in place.

    Args:
        picture_bgr: (H, W, 3) uint8.
        T_cam_head: (4, 4) m.
        camera: The picture's camera.
        model: The mesh.
        shape: (C,) coefficients of the model; None: the mean face.
        colour_rgb: Of the mesh, 0 to 255.
    """
    xyz_head = model.xyz_head if shape is None else face_points(model, shape)
    axes = np.vstack([np.zeros(3), AXIS_M * np.eye(3)])
    uv, seen = _project(np.vstack([xyz_head, axes]), T_cam_head, camera)
    edges = _front_edges(uv, seen, model.triangles)
    _draw_mesh(picture_bgr, uv[edges], colour_rgb)
    origin, tips = len(uv) - 4, range(len(uv) - 3, len(uv))
    for tip, colour in zip(tips, AXIS_COLOURS_RGB, strict=True):
        if seen[origin] and seen[tip]:
            a, b = _subpixels(uv[[origin, tip]])
            cv2.line(picture_bgr, a, b, colour[::-1], 2, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_text(picture_bgr: NDArray[np.uint8], text: str, line: int) -> None:
    """Write one line of text at the top left, in place."""
    scale = _text_scale(picture_bgr)
    draw_label(picture_bgr, text, (20 * scale, (44 + 40 * line) * scale))


def draw_label(
    picture_bgr: NDArray[np.uint8],
    text: str,
    at_uv: tuple[float, float],
    colour_rgb: tuple[int, int, int] = (255, 255, 255),
) -> None:
    """Write text with a dark rim, moved into the picture where it hangs over, in place.

    Args:
        picture_bgr: (H, W, 3) uint8.
        text: ASCII: OpenCV has no other letters.
        at_uv: Left end of the base line [px].
        colour_rgb: 0 to 255.
    """
    scale = _text_scale(picture_bgr)
    font, thin = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(2 * scale))
    (width, height), below = cv2.getTextSize(text, font, scale, thin)
    picture_height, picture_width = picture_bgr.shape[:2]
    at = (
        round(max(min(at_uv[0], picture_width - width), 0)),
        round(max(min(at_uv[1], picture_height - below), height)),
    )
    for bgr, thickness in (((0, 0, 0), 3 * thin), (colour_rgb[::-1], thin)):
        cv2.putText(picture_bgr, text, at, font, scale, bgr, thickness, cv2.LINE_AA)


def _text_scale(picture: NDArray[np.uint8]) -> float:
    return max(0.5, picture.shape[0] * _TEXT_HEIGHT)


def _draw_mesh(
    picture_bgr: NDArray[np.uint8],
    edges_uv: NDArray[np.float64],
    colour_rgb: tuple[int, int, int],
) -> None:
    """Blend lines (E, 2, 2) px into the part of the picture that they cover."""
    if len(edges_uv) == 0:
        return
    corner = np.maximum(np.floor(edges_uv.min((0, 1))).astype(int) - 1, 0)
    end = np.maximum(np.ceil(edges_uv.max((0, 1))).astype(int) + 2, corner)
    part = picture_bgr[corner[1] : end[1], corner[0] : end[0]]
    if part.size == 0:
        return
    drawn = part.copy()
    lines = _subpixels(edges_uv - corner)
    cv2.polylines(drawn, list(lines), False, colour_rgb[::-1], 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    cv2.addWeighted(drawn, _MESH_OPACITY, part, 1 - _MESH_OPACITY, 0, part)


def _front_edges(
    uv: NDArray[np.float64], seen: NDArray[np.bool_], triangles: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(E, 2) indices: every edge of the triangles that face the camera, once."""
    front = seen[triangles].all(1) & (_signed_area(uv[triangles]) < 0)
    edges = np.sort(triangles[front][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    codes = np.unique(edges[:, 0] * len(uv) + edges[:, 1])
    return np.stack([codes // len(uv), codes % len(uv)], 1)


def _project(
    xyz_head: NDArray[np.float64], T_cam_head: NDArray[np.float64], camera: Camera
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Pixels (P, 2), and which of them lie at most one picture outside the picture."""
    xyz_cam = xyz_head @ T_cam_head[:3, :3].T + T_cam_head[:3, 3]
    uv, valid, _ = camera.project(xyz_cam)
    size = np.array([camera.width, camera.height])
    # A point beside the camera lies millions of pixels away: no line of OpenCV's goes there.
    near = ((uv > -size) & (uv < 2 * size)).all(1)
    return uv, valid & near


def _subpixels(uv: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(uv * 2**_SUBPIXEL_BITS).astype(np.int32)


def _signed_area(triangles_uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the signed area (T,) of triangles (T, 3, 2): its sign tells front from back."""
    a, b, c = triangles_uv.transpose(1, 0, 2)
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
