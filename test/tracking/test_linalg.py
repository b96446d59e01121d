"""Small systems against LAPACK."""

import numpy as np
import pytest

from face_pose_ros.geometry import linalg


@pytest.mark.parametrize('shape', [(3, 3), (18, 18), (4, 2, 6, 6)])
def test_solutions_are_lapacks(shape):
    random = np.random.default_rng(0)
    A, B = random.normal(size=shape), random.normal(size=(*shape[:-1], 5))
    A[..., 0, 0] = 0  # needs another pivot
    np.testing.assert_allclose(linalg.solve(A, B), np.linalg.solve(A, B), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(linalg.inverse(A), np.linalg.inv(A), rtol=1e-9, atol=1e-10)
    # Views in any order.
    T = np.swapaxes(A, -1, -2)
    np.testing.assert_allclose(linalg.solve(T, B), np.linalg.solve(T, B), rtol=1e-9, atol=1e-10)


def test_a_singular_matrix_is_an_error():
    with pytest.raises(np.linalg.LinAlgError, match='singular'):
        linalg.inverse(np.ones((2, 2)))
