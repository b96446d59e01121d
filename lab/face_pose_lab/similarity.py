# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The similarity that lays points onto others best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def similarity(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> tuple[float, Array, Array]:
    """s, R, t of the least-squares target = s R source + t (Umeyama 1991, eq. 40-42).

    Args:
        source: (N, 3).
        target: (N, 3).
    """
    a, b = source.mean(0), target.mean(0)
    U, S, Vt = np.linalg.svd((target - b).T @ (source - a))
    D = np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = U @ D @ Vt
    s = float((S * np.diag(D)).sum() / ((source - a) ** 2).sum())
    return s, R, b - s * R @ a
