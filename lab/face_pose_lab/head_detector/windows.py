# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training images: a background or a scene, with heads and other things pasted into it.

The borders of pasted pictures tell nothing: pictures without a head are pasted in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.head_detector.heads import Heads, Similarity
from face_pose_lab.head_detector.sources import (
    Backgrounds,
    Picture,
    Scenes,
    Source,
    scrambled,
)
from face_pose_lab.keypoint_net.views import augmented

Rng = np.random.Generator

SIDE_PX = 256
_SMALLEST_PX, _LARGEST_PX = 14.0, 420.0  # apparent size of heads
_PASTED_TO_PX = 230.0
_SCENES, _ALONE = 0.4, 0.12  # shares of windows: of scenes, of one head that fills the image
_TILTED = 0.75  # share of pasted heads and windows of scenes that may have any roll
_OTHER_THINGS = 0.3  # share of the pasted pictures without a head
_DIM, _HIDDEN = 0.35, 0.75  # covered share of a head from which it is not wanted, or not there
_SHRUNK = 0.6  # scale below which a picture is halved before it is moved
_WHOLE = (SIDE_PX, SIDE_PX)
_COARSEST = 0.5  # scale to which a window may be reduced and enlarged again


@dataclass(frozen=True)
class Material:
    """Where windows come from."""

    heads: tuple[tuple[Source, float], ...]  # pictures of one head, and their shares
    scenes: Scenes | None
    backgrounds: Backgrounds

    def head(self, rng: Rng) -> tuple[Picture, Heads]:
        """A picture of one head."""
        shares = np.array([share for _, share in self.heads])
        source = self.heads[rng.choice(len(shares), p=shares / shares.sum())][0]
        return source.picture(int(rng.integers(len(source))))


def draw_window(material: Material, rng: Rng) -> tuple[Picture, Heads]:
    """An image (256, 256, 3) and its heads."""
    kind = rng.random()
    if material.scenes is not None and kind < _SCENES:
        image, heads = _of_scene(material.scenes, rng)
        count = rng.poisson(0.7)
    elif kind < _SCENES + _ALONE:
        image, heads = _of_one_head(material, rng)
        count = rng.poisson(0.5)
    else:
        image, heads = material.backgrounds.draw(SIDE_PX, rng), Heads.none()
        count = rng.poisson(3.5)
    for _ in range(count):
        if rng.random() < _OTHER_THINGS:
            other = _thing(material, rng)
            image, heads = _pasted(image, heads, other, Heads.none(), rng)
        else:
            image, heads = _pasted(image, heads, *material.head(rng), rng)
    image = augmented(image, image, rng, hide=0.0, coarsest=_COARSEST)
    inside = ((heads.uv > -0.5) & (heads.uv < SIDE_PX - 0.5)).all(-1)
    size = np.exp(heads.log_size)
    wanted = heads.wanted & inside & (size >= _SMALLEST_PX) & (size <= 1.3 * _LARGEST_PX)
    return image, replace(heads, wanted=wanted)


def _roll(rng: Rng) -> float:
    return rng.uniform(-np.pi, np.pi) if rng.random() < _TILTED else rng.normal(0, 0.2)


def _of_scene(scenes: Scenes, rng: Rng) -> tuple[Picture, Heads]:
    """A part of a scene around one of its heads, turned and zoomed."""
    picture, heads = scenes.picture(int(rng.integers(len(scenes))))
    height, width = picture.shape[:2]
    aim, size = rng.uniform((0, 0), (width, height)), 60.0
    if len(heads) and rng.random() < 0.9:
        one = int(rng.integers(len(heads)))
        aim, size = heads.uv[one], float(np.exp(heads.log_size[one]))
    asked = np.exp(rng.uniform(np.log(_SMALLEST_PX), np.log(_LARGEST_PX)))
    # No coarser than the picture, and not so small that most of the window is beyond it.
    scale = float(np.clip(asked / size, 0.8 * SIDE_PX / max(height, width), 1.8))
    at = SIDE_PX * rng.uniform(0.15, 0.85, 2)
    move = Similarity.placing(aim, at, scale, _roll(rng), bool(rng.random() < 0.5))
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    return _warped(picture, move.matrix, _WHOLE, border, rng), heads.moved(move)


def _of_one_head(material: Material, rng: Rng) -> tuple[Picture, Heads]:
    """A head that fills the image or is cut by its border."""
    picture, heads = material.head(rng)
    side = picture.shape[0]
    size = float(np.exp(heads.log_size[0])) if len(heads) else float(side)
    uv = heads.uv[0] if len(heads) else np.full(2, 0.5 * side)
    scale = np.exp(rng.uniform(np.log(110.0), np.log(_LARGEST_PX))) / size
    at = SIDE_PX * rng.uniform(0.1, 0.9, 2)
    move = Similarity.placing(uv, at, scale, _roll(rng), bool(rng.random() < 0.5))
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    return _warped(picture, move.matrix, _WHOLE, border, rng), heads.moved(move)


def _thing(material: Material, rng: Rng) -> Picture:
    """A picture without a head."""
    if rng.random() < 0.5:
        return material.backgrounds.draw(160, rng)
    return scrambled(material.head(rng)[0], rng)


def _pasted(
    image: Picture, heads: Heads, picture: Picture, of_picture: Heads, rng: Rng
) -> tuple[Picture, Heads]:
    """The image with a picture somewhere in it, and the heads of both."""
    side = picture.shape[0]
    size = float(np.exp(of_picture.log_size[0])) if len(of_picture) else 0.7 * side
    uv = of_picture.uv[0] if len(of_picture) else np.full(2, 0.5 * side)
    asked = np.exp(rng.uniform(np.log(_SMALLEST_PX), np.log(_PASTED_TO_PX)))
    scale = min(asked / size, 1.6)
    at = rng.uniform(0, SIDE_PX, 2)
    move = Similarity.placing(uv, at, scale, _roll(rng), bool(rng.random() < 0.5))
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]], np.float64)
    around = corners @ move.matrix[:, :2].T + move.matrix[:, 2]
    low, high = (x.astype(int).clip(0, SIDE_PX) for x in (around.min(0), around.max(0) + 1))
    if (high <= low).any():
        return image, heads
    matrix = move.matrix
    matrix[:, 2] -= low
    extent = int(high[0] - low[0]), int(high[1] - low[1])
    alpha = np.asarray(cv2.warpAffine(_mask(side, uv, size, rng), matrix, extent), np.float32)
    covered = _covered(alpha, heads, low)
    heads = replace(heads, wanted=heads.wanted & (covered < _DIM))[covered < _HIDDEN]
    top = _warped(picture, matrix, extent, cv2.BORDER_REPLICATE, rng)
    if len(of_picture) and rng.random() < 0.5:  # in the light of its new surroundings
        gain = np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.08, 3))
        top = cv2.convertScaleAbs(top * gain)
    image = np.ascontiguousarray(image)
    under = image[low[1] : high[1], low[0] : high[0]]
    under[:] = np.rint(under + alpha[..., None] * (top.astype(np.float32) - under))
    return image, heads.join(of_picture.moved(move))


def _mask(side: int, uv: NDArray, size: float, rng: Rng) -> NDArray[np.float32]:
    """(side, side) in [0, 1]: the whole picture, a part around the head, or an ellipse."""
    mask = np.zeros((side, side), np.float32)
    kind = rng.random()
    if kind < 0.35:
        mask[:] = 1.0
    elif kind < 0.65:
        half = 0.5 * size * rng.uniform(0.85, 1.4, 2)
        low, high = (np.rint(uv + s * half).astype(int).clip(0, side) for s in (-1, 1))
        mask[low[1] : high[1], low[0] : high[0]] = 1.0
    else:
        axes = tuple(int(a) for a in 0.5 * size * rng.uniform(0.8, 1.3, 2))
        centre = tuple(int(c) for c in np.rint(uv))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, (1.0,), -1)
    if rng.random() < 0.6:
        mask[[0, -1]] = mask[:, [0, -1]] = 0.0
        cv2.GaussianBlur(mask, (0, 0), side * rng.uniform(0.01, 0.06), dst=mask)
    return mask


def _covered(alpha: NDArray[np.float32], heads: Heads, corner: NDArray) -> NDArray[np.float64]:
    """(J,) mean over the middle of each head of a mask whose first pixel is at a corner (2,)."""
    shares = np.zeros(len(heads))
    size = np.exp(heads.log_size)
    for i, (uv, half) in enumerate(zip(heads.uv - corner, 0.3 * size, strict=True)):
        low, high = np.floor(uv - half).astype(int), np.ceil(uv + half).astype(int) + 1
        part = alpha[max(low[1], 0) : max(high[1], 0), max(low[0], 0) : max(high[0], 0)]
        shares[i] = part.sum() / np.prod(high - low)
    return shares


def _warped(
    picture: Picture, matrix: NDArray, extent: tuple[int, int], border: int, rng: Rng
) -> Picture:
    """The picture moved by a matrix (2, 3) into an extent (width, height), without aliasing."""
    matrix = matrix.copy()
    while abs(np.linalg.det(matrix[:, :2])) < _SHRUNK**2 and min(picture.shape[:2]) >= 8:
        half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        picture = np.asarray(half, np.uint8)
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5)  # the middle of 2 x 2 pixels
        matrix[:, :2] *= 2
    how = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_CUBIC
    picture = np.ascontiguousarray(picture)
    moved = cv2.warpAffine(picture, matrix, extent, flags=how, borderMode=border)
    return np.asarray(moved, np.uint8)
