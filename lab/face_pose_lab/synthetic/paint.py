# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Paint of a face: brows, lips, beard and marks, as layers over its unrolled front.

The front of the reference head (see body.py) is unrolled round the head's vertical axis. Shapes
and amounts are by eye.
"""

from __future__ import annotations

import enum
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.synthetic.body import AXIS_X

# Extent of the layers, angle [rad] to either side and height [m], and their size.
_ANGLE, _Z = 1.25, (-0.13, 0.1)
_WIDTH, _HEIGHT = 1000, 920  # px, a quarter of a millimetre each
_FULL = (255,)
# Multi-PIE's brow landmarks run along the upper edge; the middle of the hairs' roots lies lower.
_BROW_DROP_M = 0.006

Picture = NDArray[Any]  # (_HEIGHT, _WIDTH), uint8 while it is drawn on


class Layer(enum.IntEnum):
    """Layers of the painted front."""

    BROW = 0
    LIPS = 1
    BEARD = 2
    MARKS = 3  # lashes, shade round the eyes, folds, moles


def paint_front(landmarks: NDArray[np.floating], rng: np.random.Generator) -> Tensor:
    """Draw a face's layers.

    Args:
        landmarks: (68, 3) Multi-PIE landmarks of the reference [m].
        rng: Source of random numbers.

    Returns:
        (len(Layer), height, width) float32 in [0, 1].
    """
    points = _pixels(landmarks)
    lips = _lips(points)
    layers = {
        Layer.BROW: _brows(landmarks, rng),
        Layer.LIPS: cv2.GaussianBlur(lips, (0, 0), rng.uniform(3, 6)),
        Layer.BEARD: _beard(rng) * (1 - cv2.GaussianBlur(lips, (0, 0), 5) / 255),
        Layer.MARKS: _marks(points, rng),
    }
    stack = np.stack([layers[layer] for layer in Layer]).astype(np.float32)
    return torch.from_numpy(stack / 255).clamp(0, 1)


def sample_front(layers: Tensor, xyz: Tensor) -> Tensor:
    """Values (len(Layer), P) at places (P, 3) on the reference; zero beside the front."""
    angle = torch.atan2(xyz[:, 1], xyz[:, 0] - AXIS_X)
    middle, half = 0.5 * (_Z[0] + _Z[1]), 0.5 * (_Z[1] - _Z[0])
    grid = torch.stack([angle / _ANGLE, (middle - xyz[:, 2]) / half], -1)
    return F.grid_sample(layers[None], grid[None, None], align_corners=False)[0, :, 0]


def _pixels(xyz: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pixels (P, 2) of places (P, 3) on the reference."""
    angle = np.arctan2(xyz[:, 1], xyz[:, 0] - AXIS_X)
    u = (angle / _ANGLE + 1) / 2 * _WIDTH - 0.5
    v = (_Z[1] - xyz[:, 2]) / (_Z[1] - _Z[0]) * _HEIGHT - 0.5
    return np.stack([u, v], -1)


def _blank() -> Picture:
    return np.zeros((_HEIGHT, _WIDTH), np.uint8)


def _lips(points: NDArray[np.float64]) -> Picture:
    layer = _blank()
    cv2.fillPoly(layer, [np.round(points[48:60]).astype(np.int32)], _FULL)
    return layer


def _brows(landmarks: NDArray[np.floating], rng: np.random.Generator) -> Picture:
    """Every hair of both brows."""
    layer = _blank()
    count = int(rng.integers(120, 420))
    thickness, strength = rng.uniform(0.006, 0.012), rng.uniform(0.5, 0.95)
    lift, arch = rng.uniform(-0.002, 0.003), rng.uniform(-0.002, 0.004)
    # Both lines run from the nose outwards.
    for side, line in ((-1, landmarks[21:16:-1]), (1, landmarks[22:27])):
        s = rng.uniform(0, 1, count) ** 0.9
        root = np.stack([np.interp(s, np.linspace(0, 1, 5), x) for x in line.T], 1)
        width = thickness * (1 - 0.6 * s**2)
        root[:, 2] += lift - _BROW_DROP_M + arch * np.sin(2.6 * s)
        root[:, 2] += width * rng.uniform(-0.5, 0.5, count)
        # Hairs rise at the nose and lie flat outside.
        rise = np.radians(75 * (1 - s) ** 1.5 - 12 + rng.normal(0, 8, count))
        length = rng.uniform(0.004, 0.008, count)
        hair = np.stack([-0.4 * s, side * np.cos(rise), np.sin(rise)], 1) * length[:, None]
        ends = np.stack([_pixels(root), _pixels(root + hair)], 1)
        shift = 4  # sixteenths of a pixel
        for a, b in (ends * 2**shift).astype(int).tolist():
            cv2.line(layer, a, b, _FULL, 2, cv2.LINE_AA, shift)
    shade = cv2.GaussianBlur(layer, (0, 0), 6)
    return strength * np.maximum(0.75 * layer, 1.2 * shade)


def _beard(rng: np.random.Generator) -> Picture:
    angle = ((np.arange(_WIDTH) + 0.5) / _WIDTH * 2 - 1)[None] * _ANGLE
    z = (_Z[1] - (np.arange(_HEIGHT) + 0.5) / _HEIGHT * (_Z[1] - _Z[0]))[:, None]
    y = 0.11 * np.abs(angle)
    # Whiskers grow below this line, which rises towards the ear, and above the neck.
    cheek = -0.062 - 0.25 * y + 0.9 * np.maximum(y - 0.045, 0)
    jaw = _below(z, cheek, 0.004) * (1 - _below(z, -0.122, 0.003))
    moustache = np.exp(-((y / 0.03) ** 4) - ((z + 0.0615) / 0.006) ** 4)
    chin = np.exp(-((y / 0.025) ** 4)) * _below(z, -0.09, 0.002)
    lower = (jaw, jaw, chin, np.zeros_like(jaw))[rng.integers(4)]
    patches = cv2.resize(rng.uniform(0.7, 1.0, (230, 250)), (_WIDTH, _HEIGHT))
    return 255 * np.maximum(lower, moustache) * patches


def _below(z: Picture, edge: Picture | float, width: float) -> Picture:
    """1 well below a height [m], 0 well above it."""
    return 1 / (1 + np.exp(np.clip((z - edge) / width, -30, 30)))


def _marks(points: NDArray[np.float64], rng: np.random.Generator) -> Picture:
    eyes, folds, moles = _blank(), _blank(), _blank()
    crease, lashes = float(rng.uniform(0, 200)), int(rng.integers(3, 10))
    for eye in (points[36:42], points[42:48]):
        margin = np.round(eye).astype(np.int32)
        cv2.polylines(eyes, [margin], True, (200,), 4, cv2.LINE_AA)
        cv2.polylines(eyes, [margin[:4]], False, _FULL, lashes, cv2.LINE_AA)
        cv2.polylines(eyes, [margin[:4] - (0, 14)], False, (crease,), 4, cv2.LINE_AA)
    small = cv2.resize(eyes, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.GaussianBlur(small, (0, 0), 3), (_WIDTH, _HEIGHT))
    for nose, corner in ((31, 48), (35, 54)):
        outwards = 28 * np.sign(points[corner, 0] - points[nose, 0])
        ends = np.stack([points[nose] + (outwards, -18), points[corner] + (outwards, -10)])
        a, b = ends.round().astype(int).tolist()
        cv2.line(folds, a, b, (float(rng.uniform(0, 160)),), 6, cv2.LINE_AA)
    for _ in range(rng.poisson(rng.choice([1, 6, 60], p=[0.6, 0.3, 0.1]))):
        centre = int(rng.integers(_WIDTH)), int(rng.integers(_HEIGHT))
        cv2.circle(moles, centre, int(rng.integers(1, 4)), (float(rng.uniform(40, 200)),), -1)
    shades = [
        1.3 * cv2.GaussianBlur(eyes, (0, 0), 2.5) + rng.uniform(0, 2.0) * around,
        cv2.GaussianBlur(folds, (0, 0), 8),
        cv2.GaussianBlur(moles, (0, 0), 1),
    ]
    return np.max(shades, axis=0).clip(0, 235)
