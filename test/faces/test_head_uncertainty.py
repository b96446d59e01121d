# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Covariances of coarse poses: what the stated sigma becomes in the camera's frame."""

import numpy as np
import pytest
from helpers.cameras import make_camera
from helpers.heads import random_poses

from face_pose_ros.faces.head_cells import HEAD_CENTRE, cells_of_poses, poses_of_cells
from face_pose_ros.faces.head_uncertainty import HeadUncertainty, pose_of_normalised
from face_pose_ros.geometry import rotations


def near_the_axis(T):
    """Far from it the picture is stretched more along the radius than across."""
    T = T.copy()
    T[:, :2, 3] *= 0.1
    return T


def table(*variances, sizes_px=(20.0, 80.0)):
    covariance = np.array([v * np.eye(6) for v in variances])
    return HeadUncertainty(np.float64(0), np.log(sizes_px), covariance)


def test_stated_covariances_are_those_of_the_errors(rng):
    """Many truths around one pose: their scatter is the covariance."""
    camera = make_camera()
    T = near_the_axis(random_poses(1, camera, rng))
    uncertainty = table(1e-4, 4e-4, sizes_px=(1.0, 10000.0))
    sigma = np.array([[0.5, 0.5, 0.7, 1.2, 1.2, 1.2]])
    stated = uncertainty.of_poses(T, sigma, camera)[0]
    # Truths by cells: place and size in the picture, and a turn about the head's middle.
    cells, _ = cells_of_poses(T, camera)
    normalised = uncertainty.normalised(cells.log_size)[0]
    e = sigma * (rng.standard_normal((20000, 6)) @ np.linalg.cholesky(normalised).T)
    errors = []
    for sign in (1, -1):
        moved, _ = poses_of_cells(
            cells._replace(
                uv=cells.uv + np.exp(cells.log_size) * sign * e[:, :2],
                log_size=cells.log_size - sign * e[:, 2],
                columns=np.tile(cells.columns, (len(e), 1)),
            ),
            camera,
        )
        centre = rotations.apply(moved, np.array([HEAD_CENTRE]))[:, 0]
        # Isotropic, so the frame of the turn does not matter.
        R = rotations.exp(sign * e[:, 3:]) @ T[:, :3, :3]
        t = centre - R @ np.array(HEAD_CENTRE)
        omega = rotations.log(R @ T[:, :3, :3].swapaxes(1, 2))
        errors.append(np.concatenate([t - T[:, :3, 3], omega], -1))
    error = np.concatenate(errors)
    L = np.linalg.cholesky(stated)
    whitened = np.linalg.solve(L, error.T)
    np.testing.assert_allclose(whitened @ whitened.T / len(error), np.eye(6), atol=0.08)


def test_errors_are_measured_in_a_box_camera_that_sees_the_head_upright(rng):
    T = random_poses(200, make_camera(), rng)
    T[:, :3, :3] = rotations.exp(2 * rng.standard_normal((200, 3)))
    centre = rotations.apply(T, np.array([HEAD_CENTRE]))[:, 0]
    R = pose_of_normalised(T)[:, 3:, 3:]
    np.testing.assert_allclose(
        R[..., 2], centre / np.linalg.norm(centre, axis=1, keepdims=True), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(R), 1)
    up = np.einsum('nji,nj->ni', R, T[:, :3, 2])
    assert np.abs(up[:, 0]).max() < 1e-9
    assert (up[:, 1] < 0).all()


def test_a_head_seen_from_above_has_finite_errors():
    T = np.eye(4)[None]  # its z axis, which points up, is the ray
    T[:, :3, 3] = np.array([0.0, 0, 1.3]) - HEAD_CENTRE
    R = pose_of_normalised(T)[0, 3:, 3:]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)


def test_between_knots_covariances_are_mixed_and_beyond_them_they_stay():
    variances = table(1.0, 3.0).normalised(np.log([5.0, 20.0, 40.0, 80.0, 500.0]))[:, 0, 0]
    assert variances.tolist() == pytest.approx([1, 1, 2, 3, 3])
