# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras with asymmetric numbers, which reveal half-pixel errors and swapped axes."""

from __future__ import annotations

import numpy as np

from face_pose_ros.geometry.camera import Camera

K = np.array([[711.0, 0.0, 497.3], [0.0, 693.0, 338.1], [0.0, 0.0, 1.0]])
WIDTH, HEIGHT = 960, 720

_RATIONAL_12 = (
    *(0.38, 0.07, 0.0007, -0.0006, 0.01, 0.7, 0.17, 0.013),
    *(0.0012, -0.0008, -0.0011, 0.0006),
)
DISTORTIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    'none': ('plumb_bob', ()),
    'plumb_bob_4': ('plumb_bob', (-0.28, 0.09, 0.0011, -0.0007)),
    'plumb_bob_5': ('plumb_bob', (-0.31, 0.12, -0.0009, 0.0013, -0.021)),
    'rational_8': (
        'rational_polynomial',
        (0.41, 0.08, 0.0008, -0.0005, 0.011, 0.73, 0.19, 0.014),
    ),
    'thin_prism_12': ('rational_polynomial', _RATIONAL_12),
    'tilted_14': ('rational_polynomial', (*_RATIONAL_12, 0.031, -0.017)),
    'equidistant': ('equidistant', (-0.012, 0.021, -0.013, 0.0021)),
}


def make_camera(name: str = 'none') -> Camera:
    """The camera with one of the DISTORTIONS."""
    model, dist = DISTORTIONS[name]
    return Camera.from_K(K, WIDTH, HEIGHT, dist, model)
