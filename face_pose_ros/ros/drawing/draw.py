# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws heads into images; line widths and letters scale with the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.ros.drawing.style import (
    AXIS_COLOURS_RGB,
    AXIS_M,
    BACKING_OPACITY,
    BACKING_RGB,
    DISC_OPACITY,
    FACE_COLOURS_RGB,
    GAZE_IN_IMAGE_M,
    MESH_OPACITY,
    SIGMAS,
    TEXT_RGB,
    Rgb,
)

Picture = NDArray[np.uint8]
Array = NDArray[np.float64]

_SUBPIXEL_BITS = 4  # cv2 draws in sixteenths of a pixel
_REFERENCE_PX = 720  # image height with scale 1
_MIN_SCALE = 0.7  # keeps letters readable in VGA images
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_DUPLEX, 0.6
_SAMPLES = 32  # of an ellipse
_EDGE_PX = 12  # mean edge length below which edges fade, so that they do not hide the face


def drawing_scale(picture: Picture) -> float:
    """Factor of line widths and letter heights in a picture (H, W, 3)."""
    return max(_MIN_SCALE, picture.shape[0] / _REFERENCE_PX)


def fitted(picture: Picture, width: int, height: int) -> Picture:
    """A picture (H, W, 3) scaled to fit into a width and height [px], centred, border zero."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    rows, columns = (max(round(scale * side), 1) for side in picture.shape[:2])
    top, left = (height - rows) // 2, (width - columns) // 2
    whole = np.zeros((height, width, 3), np.uint8)
    whole[top : top + rows, left : left + columns] = cv2.resize(
        picture, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return whole


def face_points(model: FaceModel, shape: Array) -> Array:
    """(K, 3) points [m] of one shape (C,), in the head frame."""
    return model.points(shape[None])[0]


def draw_head(
    picture_bgr: Picture,
    T_cam_head: Array,
    camera: Camera,
    model: FaceModel,
    shape: Array | None = None,
    colour_rgb: Rgb = FACE_COLOURS_RGB[1],
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
    uv, seen = _project(_in_camera(xyz_head, T_cam_head), camera)
    _draw_mesh(picture_bgr, uv[_front_edges(uv, seen, model.triangles)], colour_rgb)
    axes = _in_camera(np.vstack([np.zeros(3), AXIS_M * np.eye(3)]), T_cam_head)
    uv, seen = _project(axes, camera)
    width = 3 * drawing_scale(picture_bgr)
    # Farthest axis first: nearer ones are drawn over it.
    for axis in np.argsort(-axes[1:, 2]):
        ends = [0, 1 + axis]
        if seen[ends].all():
            _draw_line(picture_bgr, uv[ends], AXIS_COLOURS_RGB[axis], width)


def draw_gaze(
    picture_bgr: Picture, T_cam_head: Array, covariance: Array, camera: Camera, colour_rgb: Rgb
) -> None:
    """Draw a ray along the head's x axis and the SIGMAS ellipse of its end, in place.

    Args:
        picture_bgr: (H, W, 3) uint8.
        T_cam_head: (4, 4) m.
        covariance: (6, 6) as `FacePose.covariance`.
        camera: The picture's camera.
        colour_rgb: 0 to 255.
    """
    origin, ray = T_cam_head[:3, 3], GAZE_IN_IMAGE_M * T_cam_head[:3, 0]
    tip = origin + ray
    uv, seen = _project(np.stack([origin + AXIS_M * T_cam_head[:3, 0], tip]), camera)
    if not seen.all():
        return
    scale = drawing_scale(picture_bgr)
    # A rotation by w moves the tip by w x ray.
    J_tip_pose = np.hstack([np.eye(3), -np.cross(ray, np.eye(3)).T])
    ring, seen = _project(tip + _outline(J_tip_pose @ covariance @ J_tip_pose.T, tip), camera)
    if seen.all():
        _draw_disc(picture_bgr, ring, colour_rgb, scale)
    _draw_line(picture_bgr, uv, colour_rgb, 2.5 * scale)


def draw_text(picture_bgr: Picture, text: str, line: int) -> None:
    """Write one line of text at the top left, in place."""
    scale = drawing_scale(picture_bgr)
    draw_label(picture_bgr, text, (10 * scale, (32 + 28 * line) * scale))


def draw_label(
    picture_bgr: Picture,
    text: str,
    at_uv: tuple[float, float],
    colour_rgb: Rgb | None = None,
    others: Sequence[tuple[int, int, int, int]] = (),
) -> tuple[int, int, int, int]:
    """Write text on a dark backing, moved into the picture and below other labels, in place.

    Args:
        picture_bgr: (H, W, 3) uint8.
        text: ASCII and the plus-minus sign.
        at_uv: Left end of the backing, base line of the text [px].
        colour_rgb: Of the bar to the left of the text, 0 to 255; None: no bar.
        others: xyxy [px] of labels that must not be covered.

    Returns:
        xyxy [px] of the backing.
    """
    scale = drawing_scale(picture_bgr)
    size, thin = _FONT_SCALE * scale, max(1, round(scale))
    ascii_text = text.replace('±', '+')
    (width, height), _ = cv2.getTextSize(ascii_text, _FONT, size, thin)
    pad, bar = round(6 * scale), 0 if colour_rgb is None else max(2, round(4 * scale))
    full = np.array([width + 2 * pad + bar, height + 2 * pad])
    free = np.maximum([picture_bgr.shape[1], picture_bgr.shape[0]] - full, 0)
    wanted = np.array(at_uv) - [0, height + pad]
    left, top = np.round(np.clip(wanted, 0, free)).astype(int).tolist()
    for x_min, y_min, x_max, y_max in sorted(others, key=lambda box: box[1]):
        if x_min < left + full[0] and left < x_max and y_min < top + full[1] and top < y_max:
            top = min(y_max + 1, int(free[1]))
    box = (left, top, left + int(full[0]), top + int(full[1]))
    part = picture_bgr[box[1] : box[3], box[0] : box[2]]
    backing = np.empty_like(part)
    backing[:] = BACKING_RGB[::-1]
    _blend(part, backing, BACKING_OPACITY)
    if colour_rgb is not None:
        part[:, :bar] = colour_rgb[::-1]
    at = left + bar + pad, top + pad + height
    colour = TEXT_RGB[::-1]
    cv2.putText(picture_bgr, ascii_text, at, _FONT, size, colour, thin, cv2.LINE_AA)
    for i in (i for i, letter in enumerate(text) if letter == '±'):
        (before, _), _ = cv2.getTextSize(ascii_text[:i], _FONT, size, thin)
        under = at[0] + before, at[1] - round(0.05 * height)
        cv2.putText(picture_bgr, '_', under, _FONT, size, colour, thin, cv2.LINE_AA)
    return box


def _draw_line(picture_bgr: Picture, uv: Array, colour_rgb: Rgb, width: float) -> None:
    """A line through points (P, 2) px with a dark rim, visible on any background."""
    points = [_subpixels(uv)]
    rim = max(1, round(0.4 * width))
    for bgr, thickness in (
        (BACKING_RGB[::-1], max(1, round(width)) + 2 * rim),
        (colour_rgb[::-1], max(1, round(width))),
    ):
        cv2.polylines(picture_bgr, points, False, bgr, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_mesh(picture_bgr: Picture, edges_uv: Array, colour_rgb: Rgb) -> None:
    """Blend lines (E, 2, 2) px into the picture."""
    if len(edges_uv) == 0:
        return
    width = max(1, round(0.8 * drawing_scale(picture_bgr)))
    part, corner = _covered_part(picture_bgr, edges_uv, width)
    if part.size == 0:
        return
    drawn, lines = part.copy(), list(_subpixels(edges_uv - corner))
    cv2.polylines(drawn, lines, False, colour_rgb[::-1], width, cv2.LINE_AA, _SUBPIXEL_BITS)
    edge_px = float(np.linalg.norm(edges_uv[:, 1] - edges_uv[:, 0], axis=1).mean())
    _blend(part, drawn, MESH_OPACITY * min(1.0, max(0.4, edge_px / (_EDGE_PX * width))))


def _draw_disc(picture_bgr: Picture, ring_uv: Array, colour_rgb: Rgb, width: float) -> None:
    """Blend a closed line (P, 2) px and its inside into the picture."""
    thickness = max(1, round(width))
    part, corner = _covered_part(picture_bgr, ring_uv, thickness)
    if part.size == 0:
        return
    ring = [_subpixels(ring_uv - corner)]
    drawn = part.copy()
    cv2.fillPoly(drawn, ring, colour_rgb[::-1], cv2.LINE_AA, _SUBPIXEL_BITS)
    _blend(part, drawn, DISC_OPACITY)
    cv2.polylines(part, ring, True, colour_rgb[::-1], thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _covered_part(picture: Picture, uv: Array, margin: int) -> tuple[Picture, NDArray[np.int64]]:
    """View of the part of the picture that contains points (..., 2) px, and its corner [px]."""
    points = uv.reshape(-1, 2)
    corner = np.maximum(np.floor(points.min(0)).astype(int) - margin, 0)
    end = np.maximum(np.ceil(points.max(0)).astype(int) + 1 + margin, corner)
    return picture[corner[1] : end[1], corner[0] : end[0]], corner


def _blend(part: Picture, drawn: Picture, opacity: float) -> None:
    cv2.addWeighted(drawn, opacity, part, 1 - opacity, 0, part)


def _front_edges(
    uv: Array, seen: NDArray[np.bool_], triangles: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Indices (E, 2) of all edges of the triangles that face the camera, each once."""
    front = seen[triangles].all(1) & (_signed_area(uv[triangles]) < 0)
    edges = np.sort(triangles[front][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    codes = np.unique(edges[:, 0] * len(uv) + edges[:, 1])
    return np.stack([codes // len(uv), codes % len(uv)], 1)


def _outline(covariance_xyz: Array, xyz_cam: Array) -> Array:
    """(_SAMPLES, 3) offsets [m] along the SIGMAS ellipse of a point (3,).

    Only the part of the covariance (3, 3) across the line of sight is used.
    """
    ray = xyz_cam / np.linalg.norm(xyz_cam)
    across = np.linalg.svd(ray[None])[2][1:]  # (2, 3) orthonormal
    variances, axes = np.linalg.eigh(across @ covariance_xyz @ across.T)
    angle = np.linspace(0, 2 * np.pi, _SAMPLES)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    half_axes = SIGMAS * np.sqrt(np.maximum(variances, 0.0))
    return np.asarray(circle * half_axes @ axes.T @ across)


def _in_camera(xyz_head: Array, T_cam_head: Array) -> Array:
    return np.asarray(xyz_head @ T_cam_head[:3, :3].T + T_cam_head[:3, 3])


def _project(xyz_cam: Array, camera: Camera) -> tuple[Array, NDArray[np.bool_]]:
    """Pixels (P, 2), and which of them are at most one image size outside the image."""
    uv, valid, _ = camera.project(xyz_cam)
    size = np.array([camera.width, camera.height])
    # A point beside the camera is millions of pixels away; OpenCV cannot draw lines to it.
    near = ((uv > -size) & (uv < 2 * size)).all(1)
    return uv, valid & near


def _subpixels(uv: Array) -> NDArray[np.int32]:
    return np.round(uv * 2**_SUBPIXEL_BITS).astype(np.int32)


def _signed_area(triangles_uv: Array) -> Array:
    """Twice the signed area (T,) of triangles (T, 3, 2); the sign distinguishes front and back."""
    a, b, c = triangles_uv.transpose(1, 0, 2)
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
