# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes for detection: known faces pasted onto photographs without faces."""

from pathlib import Path

import cv2
import numpy as np

from face_pose_ros.samples import load_image, load_portraits

# Centre (x, y) and height of the face in each portrait [px]: the middle between, and the distance
# of, Face Mesh points 10 (hairline) and 152 (chin).
PORTRAIT_FACES = {
    'grace_hopper': ((262.0, 233.0), 202.8),
    'astronaut': ((225.0, 124.0), 108.4),
}


def load_sample(name):
    """A photograph from scikit-image's wheel, (H, W, 3) uint8 RGB."""
    import skimage

    return load_image(Path(skimage.__file__).parent / 'data' / name)


def fill(image, width, height):
    """Enlarge an image until it covers width x height px, and cut off what hangs over."""
    scale = max(width / image.shape[1], height / image.shape[0])
    return cv2.resize(image, None, fx=scale, fy=scale)[:height, :width].copy()


def paste_portrait(background, name, face_height, centre_xy):
    """Paste a portrait, scaled to a face height [px], with its face's centre at a point (x, y)."""
    portrait = load_portraits()[name]
    (x, y), height = PORTRAIT_FACES[name]
    scale = face_height / height
    shrunk = cv2.resize(
        portrait,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )
    left = round(centre_xy[0] - (x + 0.5) * scale + 0.5)
    top = round(centre_xy[1] - (y + 0.5) * scale + 0.5)
    rows = slice(max(top, 0), min(top + shrunk.shape[0], background.shape[0]))
    columns = slice(max(left, 0), min(left + shrunk.shape[1], background.shape[1]))
    scene = background.copy()
    scene[rows, columns] = shrunk[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return np.ascontiguousarray(scene)
