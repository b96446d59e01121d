"""Small systems against LAPACK."""

import numpy as np
import pytest

from face_pose_ros.geometry import linalg


@pytest.mark.parametrize('shape', [(3, 3), (18, 18), (4, 2, 6, 6)])
def test_solutions_are_lapacks(shape, rng):
    A, B = rng.normal(size=shape), rng.normal(size=(*shape[:-1], 5))
    A[..., 0, 0] = 0  # needs another pivot
    given = A.copy(), B.copy()
    np.testing.assert_allclose(linalg.solve(A, B), np.linalg.solve(A, B), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(linalg.inverse(A), np.linalg.inv(A), rtol=1e-9, atol=1e-10)
    # Views in any order.
    T = np.swapaxes(A, -1, -2)
    np.testing.assert_allclose(linalg.solve(T, B), np.linalg.solve(T, B), rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(given[0], A)
    np.testing.assert_array_equal(given[1], B)


def test_a_singular_matrix_is_an_error():
    with pytest.raises(np.linalg.LinAlgError, match='singular'):
        linalg.inverse(np.ones((2, 2)))


def test_products_and_inverses_for_compiled_code_are_numpys(rng):
    A, B = rng.normal(size=(3, 3)), rng.normal(size=(3, 7))
    np.testing.assert_allclose(linalg.multiply(A, B), A @ B)
    np.testing.assert_allclose(linalg.inverse_3x3(A), np.linalg.inv(A))
    assert not np.isfinite(linalg.inverse_3x3(np.ones((3, 3)))).all()


def test_cholesky_is_lapacks_and_tells_what_is_not_positive_definite(rng):
    root = rng.normal(size=(9, 9))
    A, B = root @ root.T + np.eye(9), rng.normal(size=(9, 4))
    L = np.zeros((9, 9))
    assert linalg.cholesky(A, L)
    np.testing.assert_allclose(L, np.linalg.cholesky(A))
    X = B.copy()
    linalg.cholesky_solve(L, X)
    np.testing.assert_allclose(X, np.linalg.solve(A, B), rtol=1e-9)
    assert not linalg.cholesky(A - 1.001 * np.linalg.eigvalsh(A)[0] * np.eye(9), L)
