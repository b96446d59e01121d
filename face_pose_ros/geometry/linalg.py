"""Systems of a few equations, compiled: LAPACK wakes threads for them, which costs more."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros.geometry.jit import compiled

Array = NDArray[np.float64]


def solve(A: ArrayLike, B: ArrayLike) -> Array:
    """A^-1 B for A (..., n, n) and B (..., n, m) of the same leading dimensions.

    Raises:
        numpy.linalg.LinAlgError: A is singular.
    """
    # Copies: the elimination works in place.
    X = np.array(B, dtype=np.float64, order='C')
    n, m = X.shape[-2:]
    count = math.prod(X.shape[:-2])
    work = np.array(A, dtype=np.float64, order='C').reshape(count, n, n)
    if not _solve(work, X.reshape(count, n, m)):
        raise np.linalg.LinAlgError('singular matrix')
    return X


def inverse(A: ArrayLike) -> Array:
    """A^-1 of matrices (..., n, n).

    Raises:
        numpy.linalg.LinAlgError: A is singular.
    """
    shape = np.shape(A)
    unit = np.empty(shape)
    unit[:] = np.eye(shape[-1])
    return solve(A, unit)


@compiled
def multiply(A, B):
    """Product of two small matrices, without a library call."""
    C = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            for j in range(B.shape[1]):
                C[i, j] += A[i, k] * B[k, j]
    return C


@compiled
def inverse_3x3(A):
    """A^-1 by cofactors; not finite if A is singular."""
    B = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b = (i + 1) % 3, (i + 2) % 3
            c, d = (j + 1) % 3, (j + 2) % 3
            B[j, i] = A[a, c] * A[b, d] - A[a, d] * A[b, c]
    determinant = A[0, 0] * B[0, 0] + A[0, 1] * B[1, 0] + A[0, 2] * B[2, 0]
    for i in range(3):
        for j in range(3):
            B[i, j] /= determinant
    return B


@compiled
def cholesky(A, L):
    """Lower factor of A (n, n) into L; False if A is not positive definite."""
    for i in range(len(A)):
        for j in range(i + 1):
            total = A[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total > 0:
                    return False
                L[i, i] = math.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    return True


@compiled
def cholesky_solve(L, B):
    """Columns of A^-1 B in place of B (n, m), from the lower factor L of A."""
    n = len(L)
    for i in range(n):
        for k in range(i):
            for j in range(B.shape[1]):
                B[i, j] -= L[i, k] * B[k, j]
        for j in range(B.shape[1]):
            B[i, j] /= L[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            for j in range(B.shape[1]):
                B[i, j] -= L[k, i] * B[k, j]
        for j in range(B.shape[1]):
            B[i, j] /= L[i, i]


@compiled
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
