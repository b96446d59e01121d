# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two portraits in the public domain; NOTICE has their sources."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_FOLDER = Path(__file__).parent


def load_portraits() -> dict[str, NDArray[np.uint8]]:
    """The packaged portraits by name, each (H, W, 3) uint8 RGB."""
    return {name: load_image(_FOLDER / f'{name}.jpg') for name in ('grace_hopper', 'astronaut')}


def load_image(path: Path | str) -> NDArray[np.uint8]:
    """Image file as (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError: There is no such file, or OpenCV can't read it as an image.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise FileNotFoundError(f'{path}: no image that OpenCV can read')
    return np.ascontiguousarray(bgr[..., ::-1])
