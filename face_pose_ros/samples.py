"""Public-domain portraits that Python packages ship: real faces without a download."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def load_portraits() -> dict[str, NDArray[np.uint8]]:
    """Portraits by name, each (H, W, 3) uint8 RGB.

    Raises:
        ModuleNotFoundError: matplotlib or scikit-image, whose sample data they are, is missing.
    """
    import matplotlib
    import skimage.data

    hopper = Path(matplotlib.get_data_path()) / 'sample_data' / 'grace_hopper.jpg'
    return {'grace_hopper': load_image(hopper), 'astronaut': skimage.data.astronaut()}


def load_image(path: Path | str) -> NDArray[np.uint8]:
    """Image file as (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError: There is no such file, or OpenCV can't read it as an image.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise FileNotFoundError(f'{path}: no image that OpenCV can read')
    return np.ascontiguousarray(bgr[..., ::-1])
