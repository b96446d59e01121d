# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compiled linear algebra for small matrices; LAPACK starts threads, which costs more time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros import _core
from face_pose_ros.geometry.jit import inner

Array = NDArray[np.float64]

_MAX_SWEEPS = 30  # quadratic convergence: matrices of twelve rows need six
_DIAGONAL = 1e-30  # off-diagonal share of the sum of squares that counts as rounding


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


@inner
def multiply(A, B):
    """Product of two small matrices, without a library call."""
    C = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            for j in range(B.shape[1]):
                C[i, j] += A[i, k] * B[k, j]
    return C


@inner
def congruent(A, P, C):
    """C = A P A^T of small matrices: the covariance of A e if P is the covariance of e."""
    AP = multiply(A, P)
    for i in range(A.shape[0]):
        for j in range(A.shape[0]):
            C[i, j] = 0.0
            for k in range(A.shape[1]):
                C[i, j] += AP[i, k] * A[j, k]


@inner
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


@inner
def cholesky(A, L):
    """Write the lower Cholesky factor of A (n, n) into L; False if A is not positive definite."""
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


@inner
def cholesky_solve(L, B):
    """Replace B (n, m) by A^-1 B, from the lower factor L of A."""
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


@inner
def cholesky_inverse(A, A_inv):
    """A^-1 of a symmetric A (n, n) into A_inv; False if A is not positive definite."""
    n = len(A)
    L = np.zeros((n, n))
    if not cholesky(A, L):
        return False
    for i in range(n):
        for j in range(n):
            A_inv[i, j] = 1.0 if i == j else 0.0
    cholesky_solve(L, A_inv)
    return True


@inner
def symmetric_eigen(A, values, rows):
    """Eigenvalues (n,), ascending, and eigenvectors as rows (n, n) of a symmetric A (n, n).

    Jacobi's cyclic method (Golub and Van Loan 2013, "Matrix computations", section 8.5). A is
    overwritten.
    """
    n = len(A)
    for i in range(n):
        for j in range(n):
            rows[i, j] = 1.0 if i == j else 0.0
    for _ in range(_MAX_SWEEPS):
        total, off = 0.0, 0.0
        for i in range(n):
            for j in range(n):
                square = A[i, j] * A[i, j]
                total += square
                off += square if i != j else 0.0
        if not off > _DIAGONAL * total:
            break
        for p in range(n - 1):
            for q in range(p + 1, n):
                if n * n * A[p, q] * A[p, q] > _DIAGONAL * total:
                    _rotate(A, rows, p, q)
    for i in range(n):
        values[i] = A[i, i]
    for i in range(n - 1):
        least = i
        for j in range(i + 1, n):
            if values[j] < values[least]:
                least = j
        values[i], values[least] = values[least], values[i]
        for j in range(n):
            rows[i, j], rows[least, j] = rows[least, j], rows[i, j]


@inner
def _rotate(A, rows, p, q):
    """Rotate A and the rows in the plane of axes p and q so that A[p, q] becomes 0."""
    half = 0.5 * (A[q, q] - A[p, p]) / A[p, q]
    tan = (1.0 if half >= 0 else -1.0) / (abs(half) + math.sqrt(1 + half * half))
    cos = 1 / math.sqrt(1 + tan * tan)
    sin = tan * cos
    for k in range(len(A)):
        a, b = A[p, k], A[q, k]
        A[p, k], A[q, k] = cos * a - sin * b, sin * a + cos * b
        a, b = rows[p, k], rows[q, k]
        rows[p, k], rows[q, k] = cos * a - sin * b, sin * a + cos * b
    for k in range(len(A)):
        a, b = A[k, p], A[k, q]
        A[k, p], A[k, q] = cos * a - sin * b, sin * a + cos * b


@inner
def eliminate(M, Y):
    """Replace Y (n, m) by M^-1 Y; Gaussian elimination with row pivots overwrites M (n, n).

    Returns:
        False if M is singular.
    """
    size = len(M)
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
