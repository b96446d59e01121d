# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Linear algebra for small matrices; LAPACK starts threads, which costs more time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros import _core

Array = NDArray[np.float64]


def solve(A: ArrayLike, B: ArrayLike) -> Array:
    """A^-1 B for A (..., n, n) and B (..., n, m) of the same leading dimensions.

    Raises:
        numpy.linalg.LinAlgError: A is singular.
    """
    # Copies, because the elimination works in place.
    X = np.array(B, dtype=np.float64, order='C')
    n, m = X.shape[-2:]
    count = math.prod(X.shape[:-2])
    work = np.array(A, dtype=np.float64, order='C').reshape(count, n, n)
    if not _core.eliminate(work, X.reshape(count, n, m)):
        raise np.linalg.LinAlgError('singular matrix')
    return X
