# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image degradations of cameras, transmission and files."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Picture = NDArray[Any]  # uint8; OpenCV's stubs know no more than that


def develop(picture: Picture, strength_px: float, rng: Rng) -> Picture:
    """A picture (H, W, 3) with blur, a tone curve, noise and JPEG, each now and then.

    Args:
        picture: uint8 RGB.
        strength_px: Size of a head in it: blur grows with it.
        rng: Source of random numbers.
    """
    if rng.uniform() < 0.15:
        picture = motion_blur(picture, rng.uniform(1.5, 0.06 * strength_px + 2), rng)
    elif rng.uniform() < 0.25:
        sigma = rng.uniform(0.3, 0.3 + 0.008 * strength_px)
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    if rng.uniform() < 0.5:
        curve = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.2))
        gain = np.exp(rng.normal(0, 0.06, 3) + rng.normal(0, 0.1))
        table = (255 * curve[:, None] * gain).clip(0, 255).astype(np.uint8)
        picture = cv2.LUT(picture, table[None])
    if rng.uniform() < 0.5:
        picture = noisy(picture, min(float(rng.exponential(4.0)), 16.0), rng)
    if rng.uniform() < 0.4:
        picture = jpeg(picture, int(rng.integers(25, 95)))
    return picture


def coarser(picture: Picture, side_px: int, rng: Rng) -> Picture:
    """The picture as if it had been `side_px` wide and enlarged."""
    height, width = picture.shape[:2]
    size = side_px, max(round(side_px * height / width), 1)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if rng.uniform() < 0.5:
        small = noisy(small, min(float(rng.exponential(3.0)), 12.0), rng)
    if rng.uniform() < 0.4:
        small = jpeg(small, int(rng.integers(40, 95)))
    how = cv2.INTER_LINEAR if rng.uniform() < 0.7 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(small, (width, height), interpolation=how), np.uint8)


def motion_blur(picture: Picture, length_px: float, rng: Rng) -> Picture:
    """Smeared along a line about every pixel, so that places stay."""
    side = 2 * int(np.ceil(length_px / 2)) + 1
    angle = rng.uniform(0, np.pi)
    half = 0.5 * length_px * np.array([np.cos(angle), np.sin(angle)])
    shift = 4  # sixteenths of a pixel
    ends = (side // 2 + np.stack([-half, half])) * 2**shift
    (a, b), (c, d) = ends.astype(int).tolist()
    line = np.zeros((side, side), np.uint8)
    cv2.line(line, (a, b), (c, d), (255,), 1, cv2.LINE_AA, shift)
    kernel = line + line[::-1, ::-1].astype(np.float32)  # exactly symmetric
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)


def noisy(picture: Picture, sigma: float, rng: Rng) -> Picture:
    """Gaussian noise of `sigma` levels, on brightness or on every channel."""
    height, width = picture.shape[:2]
    channels = 1 if rng.uniform() < 0.4 else 3
    noise = rng.standard_normal((height, width, channels), dtype=np.float32) * np.float32(sigma)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def jpeg(picture: Picture, quality: int) -> Picture:
    """Through a JPEG file and back."""
    _, data = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def replicated_border(picture: Picture, rng: Rng) -> Picture:
    """Repeat the last rows or columns, as where a crop reaches beyond the image."""
    height, width = picture.shape[:2]
    left, right, top, bottom = (
        int(rng.uniform(0, 0.3) * side) if rng.uniform() < 0.4 else 0
        for side in (width, width, height, height)
    )
    part = picture[top : height - bottom, left : width - right]
    return np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE))
