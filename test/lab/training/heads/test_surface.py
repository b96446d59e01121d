# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points on meshes, against solids whose geometry is known."""

import numpy as np
import pytest
from face_pose_lab.training.heads.surface import leaving_points, nearest_points, ray_distances
from helpers.solids import ellipsoid


def test_a_ray_meets_a_triangle_where_the_plane_says():
    corners = np.array([[2.0, -1, -1], [2, 3, -1], [2, -1, 4]])
    distance, weights = ray_distances(np.zeros(3), np.array([1.0, 0.1, 0.2]), corners)
    assert distance == pytest.approx(2)
    np.testing.assert_allclose(weights @ corners, [2, 0.2, 0.4], atol=1e-12)


@pytest.mark.parametrize('direction', [(-1.0, 0.1, 0.2), (1, 3, 0), (1, -0.8, 0)])
def test_a_ray_that_misses_is_infinite(direction):
    corners = np.array([[2.0, -1, -1], [2, 3, -1], [2, -1, 4]])
    assert np.isinf(ray_distances(np.zeros(3), np.array(direction), corners)[0])


def test_rays_leave_an_ellipsoid_at_its_surface(rng):
    xyz, triangles = ellipsoid((0.1, 0.08, 0.12))
    directions = rng.normal(size=(20, 3))
    points = leaving_points(np.zeros(3), directions, xyz, triangles).of(xyz)
    np.testing.assert_allclose(np.linalg.norm(points / (0.1, 0.08, 0.12), axis=1), 1, atol=0.02)
    np.testing.assert_allclose(np.cross(points, directions), 0, atol=1e-6)


def test_rays_outside_are_an_error():
    xyz, triangles = ellipsoid((0.1, 0.08, 0.12))
    with pytest.raises(ValueError, match='meets no triangle'):
        leaving_points(np.array([1.0, 0, 0]), np.array([[1.0, 0, 0]]), xyz, triangles)


def test_the_nearest_point_of_a_sphere_lies_below(rng):
    xyz, triangles = ellipsoid((0.1, 0.1, 0.1))
    up = rng.normal(size=(30, 3))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    points, distance = nearest_points(0.13 * up, up, xyz, triangles)
    np.testing.assert_allclose(points.of(xyz), 0.1 * up, atol=0.004)
    np.testing.assert_allclose(distance, 0.03, atol=0.002)
