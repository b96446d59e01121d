# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images with a known number of faces, and their camera."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros import Camera
from face_pose_ros.samples import load_portraits

SIZES = {'VGA': (640, 480), '720p': (1280, 720), '1080p': (1920, 1080), '4K': (3840, 2160)}


def camera_of(width: int, height: int) -> Camera:
    """A pinhole camera of 71 deg."""
    f = 900 / 1280 * width
    return Camera.from_K([f, 0, (width - 1) / 2, 0, f, (height - 1) / 2, 0, 0, 1], width, height)


def faces_in(width: int, height: int, count: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB: portraits in rows on grey, as large as they fit.

    One in 1280 x 720 is as large as the photograph, a face of 203 px.
    """
    rows = max(round(math.sqrt(count * height / width)), 1)
    columns = math.ceil(count / rows)
    side = min(width // columns, height // rows, round(512 / 720 * height))
    portrait = load_portraits()['grace_hopper'][:512]
    portrait = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    image = np.full((height, width, 3), 96, np.uint8)
    for i in range(count):
        left = (2 * (i % columns) + 1) * width // (2 * columns) - side // 2
        top = (2 * (i // columns) + 1) * height // (2 * rows) - side // 2
        image[top : top + side, left : left + side] = portrait
    return image


def drifting(image: NDArray[np.uint8], count: int = 60) -> list[NDArray[np.uint8]]:
    """The image shifted by up to 8 px in two seconds at 30 Hz, as from a hand-held camera.

    Args:
        image: (H, W, 3).
        count: Number of images, of 60; they are then played forth and back.
    """
    angles = 2 * np.pi * np.arange(count) / 60
    shifts = zip(np.rint(8 * np.sin(3 * angles)), np.rint(8 * np.cos(2 * angles)), strict=True)
    images = [np.roll(image, (int(v), int(u)), (0, 1)) for u, v in shifts]
    return images if count == 60 else images + images[-2:0:-1]
