# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation of the keypoint network's crops: geometry and appearance.

Labels stay exact: an affine map of a picture is a zoom, roll and shift of its camera. Rotations
are relative to a camera that points at the centre of the crop, so a shift also rotates the label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.network_output import INPUT_PX, MARGIN

Picture = NDArray[Any]  # uint8; more than OpenCV's annotations promise
Rng = np.random.Generator

_MIDDLE = 0.5 * (INPUT_PX - 1)
_EYES = tuple(
    [semantic.NAMES.index(f'{corner}_{side}') for corner in ('eye_outer', 'eye_inner')]
    for side in ('right', 'left')
)
_FOREHEAD = [semantic.NAMES.index(name) for name in ('forehead', 'glabella')]
_CHIN = [semantic.NAMES.index(name) for name in ('chin', 'menton')]
_MIRRORED_CAMERA = np.diag([-1.0, 1.0, 1.0])
_MIRRORED_HEAD = np.diag([1.0, -1.0, 1.0])

# Shares of crops: varied like those of tracked faces; with any roll; the others like first crops
# of a detector that knows the roll.
_TRACKED, _ANY_ROLL = 0.85, 0.06
_NOISE = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)


@dataclass(frozen=True)
class Move:
    """Difference between a crop and the crop centred on its keypoints."""

    flip: bool = False
    roll: float = 0.0  # rad
    log_scale: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)  # of the crop's side


def random_move(rng: Rng) -> Move:
    """Random move, as for crops of tracked faces or of detector boxes."""
    flip = bool(rng.random() < 0.5)
    kind = rng.random()
    if kind < _TRACKED:
        roll, scale, shift = rng.normal(0, 0.12), rng.normal(0, 0.09), rng.normal(0, 0.035, 2)
    else:
        largest = math.pi if kind < _TRACKED + _ANY_ROLL else 0.8
        roll, scale = rng.uniform(-largest, largest), rng.uniform(-0.3, 0.3)
        shift = rng.normal(0, 0.08, 2)
    return Move(flip, roll, scale, (float(shift[0]), float(shift[1])))


def upright_square(uv: NDArray) -> tuple[float, NDArray, float]:
    """Roll [rad] of a face, and centre (2,) and side of its keypoints' bounds without the roll.

    As in `geometry.crops`: eye line and midline add up.
    """
    across = uv[_EYES[1]].mean(0) - uv[_EYES[0]].mean(0)
    down = uv[_CHIN].mean(0) - uv[_FOREHEAD].mean(0)
    roll = math.atan2(across[1] - down[0], across[0] + down[1])
    turned = uv[semantic.IS_FACE] @ _turn(-roll).T
    low, high = turned.min(0), turned.max(0)
    return roll, _turn(roll) @ (0.5 * (low + high)), float((high - low).max())


def moved(
    picture: Picture, uv: NDArray, R: NDArray, focal_px: float, move: Move
) -> tuple[Picture, NDArray, NDArray]:
    """The crop (128, 128, 3), its keypoints (K, 2) px, and the rotation of the head in it.

    Args:
        picture: (S, S, 3) uint8; the principal point of its camera is the centre.
        uv: (K, 2) px.
        R: (3, 3) R_crop_head.
        focal_px: Focal length of that camera.
        move: Change of the crop.
    """
    old_middle = 0.5 * (picture.shape[1] - 1)
    mirrored = -1.0 if move.flip else 1.0
    if move.flip:
        uv = uv[semantic.MIRROR] * (-1, 1) + (2 * old_middle, 0)
        R = _MIRRORED_CAMERA @ R @ _MIRRORED_HEAD
    roll, middle, side = upright_square(uv)
    angle = move.roll - roll
    A = INPUT_PX / (MARGIN * side) * math.exp(move.log_scale) * _turn(angle)
    offset = _MIDDLE + INPUT_PX * np.array(move.shift) - A @ middle
    # The affine map includes the flip of the picture.
    of_picture = offset + A @ (old_middle * (1 - mirrored), 0.0)
    crop = cv2.warpAffine(
        picture,
        np.column_stack([A * (mirrored, 1.0), of_picture]),
        (INPUT_PX, INPUT_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    looked_at = np.linalg.solve(A, _MIDDLE - offset)
    ray = np.append(_turn(angle) @ (looked_at - old_middle) / focal_px, 1.0)
    rolled = np.eye(3)
    rolled[:2, :2] = _turn(angle)
    R = _turned_to(ray) @ rolled @ R
    return crop, uv @ A.T + offset, R


def _turn(angle: float) -> NDArray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def _turned_to(ray: NDArray) -> NDArray:
    """Smallest rotation (3, 3) that points a camera along the ray (3,)."""
    x, y, z = (float(v) for v in ray / np.linalg.norm(ray))
    # I + [a] + [a]^2 / (1 + z) with a = ray x (0, 0, 1), whose length is the sine of the angle.
    a = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])
    return np.eye(3) + a + a @ a / (1 + z)


def without_face(picture: Picture, uv: NDArray, rng: Rng) -> Picture:
    """A crop (128, 128, 3) beside the face, or of a small part of it."""
    _, middle, side = upright_square(uv)
    if rng.random() < 0.7:
        away = rng.uniform(0.95, 1.5) * side
        scale = 1 / (MARGIN * side) * math.exp(rng.uniform(-0.3, 0.5))
    else:
        away, scale = rng.uniform(0, 0.3) * side, rng.uniform(2.5, 5) / (MARGIN * side)
    direction = rng.uniform(0, 2 * math.pi)
    middle = middle + away * np.array([math.cos(direction), math.sin(direction)])
    A = INPUT_PX * scale * _turn(rng.uniform(-math.pi, math.pi))
    return cv2.warpAffine(
        picture,
        np.column_stack([A, _MIDDLE - A @ middle]),
        (INPUT_PX, INPUT_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def around_false_head(picture: Picture, rng: Rng) -> Picture:
    """A crop (128, 128, 3) of a picture of `false_heads`, at any roll."""
    scale = INPUT_PX / picture.shape[1] * math.exp(rng.uniform(-0.1, 0.5))
    A = scale * _turn(rng.uniform(-math.pi, math.pi))
    middle = 0.5 * (picture.shape[1] - 1) + rng.normal(0, 0.05, 2) * picture.shape[1]
    return cv2.warpAffine(
        picture,
        np.column_stack([A, _MIDDLE - A @ middle]),
        (INPUT_PX, INPUT_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def as_chip(crop: Picture, uv: NDArray, rng: Rng) -> Picture:
    """Crop as tightly as FairFace's chips; outside, the border is repeated or black."""
    low, high = uv[semantic.IS_FACE].min(0), uv[semantic.IS_FACE].max(0)
    middle = 0.5 * (low + high) + rng.normal(0, 0.04, 2) * INPUT_PX
    half = 0.5 * (high - low).max() * rng.uniform(1.05, 1.4)
    left, top = np.clip(np.rint(middle - half), 0, INPUT_PX - 20).astype(int)
    right, bottom = np.clip(np.rint(middle + half), 20, INPUT_PX).astype(int)
    right, bottom = max(right, left + 8), max(bottom, top + 8)
    how = cv2.BORDER_REPLICATE if rng.random() < 0.75 else cv2.BORDER_CONSTANT
    return cv2.copyMakeBorder(
        crop[top:bottom, left:right], top, INPUT_PX - bottom, left, INPUT_PX - right, how
    )


def augmented(
    crop: Picture, other: Picture, rng: Rng, hide: float = 0.4, coarsest: float = 0.17
) -> Picture:
    """The crop as another camera in another light might have taken it.

    Args:
        crop: (S, S, 3).
        other: Likewise; parts of it hide parts of the crop.
        rng: Of this view.
        hide: Share of crops of which parts are hidden.
        coarsest: Least scale to which a crop is reduced, before it is enlarged again.
    """
    if rng.random() < hide:
        crop = _hidden(crop, other, rng)
    if rng.random() < 0.25:
        crop = _shaded(crop, rng)
    if rng.random() < 0.08:
        mixing = rng.dirichlet((0.6, 0.6, 0.6), 3).astype(np.float32)
        crop = cv2.transform(crop, mixing)
    if rng.random() < 0.8:
        crop = _toned(crop, rng)
    if rng.random() < 0.3:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.2:
        crop = _blurred(crop, rng)
    if rng.random() < 0.25:
        whole = crop.shape[0]
        side = int(whole * np.exp(rng.uniform(np.log(coarsest), np.log(0.86))))
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        how = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_CUBIC
        crop = cv2.resize(small, (whole, whole), interpolation=how)
    if rng.random() < 0.4:
        first = rng.integers(len(_NOISE) - crop.size)
        grain = _NOISE[first : first + crop.size].reshape(crop.shape)
        if rng.random() < 0.4:
            grain = grain[..., :1]
        crop = np.clip(crop + 22 * rng.uniform(0, 1) ** 2 * grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        quality = int(rng.integers(12, 75))
        _, coded = cv2.imencode('.jpg', crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
        crop = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return crop


def _toned(crop: Picture, rng: Rng) -> Picture:
    """Exposure, contrast, gamma and tint, by a lookup table for each channel."""
    x = np.linspace(0, 1, 256)[:, None]
    gain = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.08, 3))
    contrast = np.exp(rng.normal(0, 0.25))
    y = gain * (contrast * (x - 0.45) + 0.45) + rng.normal(0, 0.05)
    y = np.clip(y, 0, 1) ** np.exp(rng.normal(0, 0.3))
    table = np.rint(255 * y).astype(np.uint8)
    return cv2.LUT(crop, table[None])


def _shaded(crop: Picture, rng: Rng) -> Picture:
    """A brightness gradient across the picture."""
    angle, slope = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.6)
    line = np.linspace(-1, 1, crop.shape[0], dtype=np.float32)
    along = line * math.cos(angle) + line[:, None] * math.sin(angle)
    if rng.random() < 0.3:
        along = np.tanh(along * rng.uniform(2, 12))
    light = cv2.exp((slope * along).astype(np.float32))
    return cv2.multiply(crop, cv2.merge([light, light, light]), dtype=cv2.CV_8U)


def _blurred(crop: Picture, rng: Rng) -> Picture:
    if rng.random() < 0.6:
        return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 2.0))
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    angle, half = rng.uniform(0, math.pi), 0.5 * (length - 1)
    across = half * np.array([math.cos(angle), math.sin(angle)])
    a, b = (tuple(int(v) for v in np.rint(half + s * across)) for s in (-1, 1))
    cv2.line(kernel, a, b, (1.0,))
    return cv2.filter2D(crop, -1, kernel / kernel.sum())


def _hidden(crop: Picture, other: Picture, rng: Rng) -> Picture:
    """Occlude with boxes and ellipses of one colour or of another picture."""
    crop = crop.copy()
    for _ in range(rng.integers(1, 3)):
        mask = np.zeros(crop.shape[:2], np.uint8)
        middle = tuple(int(v) for v in rng.integers(0, INPUT_PX, 2))
        half = tuple(int(v) for v in rng.integers(6, 56, 2))
        angle = float(rng.uniform(0, 180))
        if rng.random() < 0.5:
            cv2.ellipse(mask, middle, half, angle, 0, 360, (1,), -1)
        else:
            corners = cv2.boxPoints((middle, (2 * half[0], 2 * half[1]), angle))
            cv2.fillConvexPoly(mask, corners.astype(np.int32), (1,))
        what = other if rng.random() < 0.4 else rng.integers(0, 256, 3).astype(np.uint8)
        np.copyto(crop, what, where=mask[..., None] > 0)
    return crop
