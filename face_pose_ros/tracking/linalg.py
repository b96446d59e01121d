"""Systems of a few equations, compiled: LAPACK wakes threads for them, which costs more."""

from __future__ import annotations

import math

import numpy as np

from face_pose_ros.geometry.jit import compiled as _compiled
from face_pose_ros.tracking.se3 import Array


def solve(A: Array, B: Array) -> Array:
    """A^-1 B for A (..., n, n) and B (..., n, m) of the same leading dimensions.

    Raises:
        numpy.linalg.LinAlgError: A is singular.
    """
    n, m = B.shape[-2:]
    count = math.prod(B.shape[:-2])
    X = B.reshape(count, n, m).copy()
    if not _solve(A.reshape(count, n, n).copy(), X):
        raise np.linalg.LinAlgError('singular matrix')
    return X.reshape(B.shape)


def inverse(A: Array) -> Array:
    """A^-1 of matrices (..., n, n).

    Raises:
        numpy.linalg.LinAlgError: A is singular.
    """
    unit = np.empty(A.shape)
    unit[:] = np.eye(A.shape[-1])
    return solve(A, unit)


@_compiled
def _solve(A, X):
    """Gauss's elimination with row pivots, in place; False if a matrix is singular."""
    size = A.shape[1]
    for b in range(len(A)):
        M, Y = A[b], X[b]
        for i in range(size):
            pivot = i
            for r in range(i + 1, size):
                if abs(M[r, i]) > abs(M[pivot, i]):
                    pivot = r
            if M[pivot, i] == 0:
                return False
            if pivot != i:
                for c in range(size):
                    M[i, c], M[pivot, c] = M[pivot, c], M[i, c]
                for c in range(Y.shape[1]):
                    Y[i, c], Y[pivot, c] = Y[pivot, c], Y[i, c]
            for r in range(i + 1, size):
                factor = M[r, i] / M[i, i]
                for c in range(i + 1, size):
                    M[r, c] -= factor * M[i, c]
                for c in range(Y.shape[1]):
                    Y[r, c] -= factor * Y[i, c]
        for i in range(size - 1, -1, -1):
            for c in range(Y.shape[1]):
                for k in range(i + 1, size):
                    Y[i, c] -= M[i, k] * Y[k, c]
                Y[i, c] /= M[i, i]
    return True
