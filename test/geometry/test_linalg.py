# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small systems against LAPACK."""

import numpy as np
import pytest

from face_pose_ros._core import cholesky_inverse, symmetric_eigen
from face_pose_ros.geometry import linalg


@pytest.mark.parametrize('shape', [(3, 3), (18, 18), (4, 2, 6, 6)])
def test_solutions_are_lapacks(shape, rng):
    A, B = rng.normal(size=shape), rng.normal(size=(*shape[:-1], 5))
    A[..., 0, 0] = 0  # needs another pivot
    given = A.copy(), B.copy()
    np.testing.assert_allclose(linalg.solve(A, B), np.linalg.solve(A, B), rtol=1e-9, atol=1e-10)
    # Views in any order.
    T = np.swapaxes(A, -1, -2)
    np.testing.assert_allclose(linalg.solve(T, B), np.linalg.solve(T, B), rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(given[0], A)
    np.testing.assert_array_equal(given[1], B)


def test_a_singular_matrix_is_an_error():
    with pytest.raises(np.linalg.LinAlgError, match='singular'):
        linalg.solve(np.ones((2, 2)), np.ones((2, 1)))


def test_inverses_are_lapacks_and_tell_what_is_not_positive_definite(rng):
    root = rng.normal(size=(9, 9))
    A, A_inv = root @ root.T + np.eye(9), np.empty((9, 9))
    assert cholesky_inverse(A, A_inv)
    np.testing.assert_allclose(A_inv, np.linalg.inv(A), rtol=1e-9)
    indefinite = A - 1.001 * np.linalg.eigvalsh(A)[0] * np.eye(9)
    assert not cholesky_inverse(indefinite, A_inv)


@pytest.mark.parametrize('n', [1, 2, 9, 12])
def test_eigenvectors_of_symmetric_matrices_are_lapacks(n, rng):
    root = rng.normal(size=(n, n))
    A = root @ root.T * np.exp(rng.normal(size=n))[:, None] * 1e-6
    A = A + A.T
    values, rows = np.empty(n), np.empty((n, n))
    symmetric_eigen(A.copy(), values, rows)
    scale = np.abs(values).max()
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A), atol=1e-14 * scale)
    np.testing.assert_allclose(rows @ rows.T, np.eye(n), atol=1e-13)
    np.testing.assert_allclose(rows @ A @ rows.T, np.diag(values), atol=1e-13 * scale)


def test_diagonal_matrices_of_equal_values_are_their_own_eigenvectors():
    values, rows = np.empty(3), np.empty((3, 3))
    symmetric_eigen(np.diag([2.0, -1.0, 2.0]), values, rows)
    assert values.tolist() == [-1, 2, 2]
    assert sorted(map(tuple, np.abs(rows))) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    symmetric_eigen(np.zeros((3, 3)), values, rows)
    assert values.tolist() == [0, 0, 0]
