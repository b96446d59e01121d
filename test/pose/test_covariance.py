# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The covariance is the spread of the estimates."""

import numpy as np
import pytest
from helpers.cameras import make_camera
from helpers.heads import observe, random_poses

from face_pose_ros.geometry import rotations
from face_pose_ros.options import KERNELS, PoseOptions
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.pose.fit import fit_pose


def squared_length(error, covariance):
    return (error * np.linalg.solve(covariance, error[..., None])[..., 0]).sum(-1)


def pose_nees(poses, T):
    return squared_length(rotations.difference(T, poses.T_cam_head), poses.covariance)


@pytest.mark.parametrize('kernel', KERNELS)
def test_normalised_errors_are_chi_square(kernel, rng):
    """Unknown shapes, noisy keypoints: mean 6, and the quantiles of chi-square with 6 dof."""
    face, camera = deformable_face(), make_camera('plumb_bob_5')
    T = random_poses(4000, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    shape = rng.standard_normal((4000, len(face.shape_names)))
    keypoints = observe(face.points(shape), T, camera, noise_px=1.5, sigma_px=1.5, rng=rng)
    options = PoseOptions(kernel=kernel, independent_keypoints=1e9, visibility=False)
    poses = fit_pose(keypoints, face, camera, options).poses
    nees = pose_nees(poses, T)
    assert 5.7 < nees.mean() < 6.3  # its own spread is 0.05
    assert 0.65 < (nees < 7.038).mean() < 0.71
    assert 0.93 < (nees < 12.592).mean() < 0.97
    of_shape = squared_length(poses.shape - shape, poses.shape_covariance)
    assert 0.93 < of_shape.mean() / len(face.shape_names) < 1.07


def test_noise_that_sigma_did_not_promise_widens_the_covariance(wavy, rng):
    camera = make_camera()
    T = random_poses(600, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=3, sigma_px=1, rng=rng)
    options = PoseOptions(kernel='cauchy', independent_keypoints=1e9, visibility=False)
    poses = fit_pose(keypoints, wavy.keep('none'), camera, options).poses
    assert 5.2 < pose_nees(poses, T).mean() < 7


def test_parts_of_the_covariance_belong_together(wavy, rng):
    camera = make_camera()
    T = random_poses(20, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, rng=rng)
    poses = fit_pose(keypoints, wavy, camera).poses
    G, of_shape = poses.pose_of_shape, poses.shape_covariance
    np.testing.assert_allclose(
        poses.covariance,
        poses.covariance_given_shape + G @ of_shape @ G.swapaxes(-1, -2),
        rtol=1e-9,
        atol=1e-15,
    )
    assert (np.linalg.eigvalsh(poses.covariance) > 0).all()


def test_unknown_face_size_is_uncertainty_along_the_ray(wavy, rng):
    camera = make_camera()
    T = random_poses(4, camera, rng, distance_m=(2, 3), yaw_deg=30)
    size_only = wavy.keep('size')
    keypoints = observe(wavy.xyz_head, T, camera, sigma_px=0.1)
    poses = fit_pose(keypoints, size_only, camera).poses
    distance = np.linalg.norm(T[:, :3, 3], axis=-1)
    ray = T[:, :3, 3] / distance[:, None]
    sigma = np.sqrt(np.einsum('ni,nij,nj->n', ray, poses.covariance[:, :3, :3], ray))
    # From afar the picture says nothing about the size.
    np.testing.assert_allclose(sigma / distance, wavy.size_sigma, rtol=0.05)
    # Turning the head changes nothing: to the side the position is known far better.
    across = np.sqrt(np.linalg.eigvalsh(poses.covariance[:, :3, :3])[:, 1])
    assert (across < 0.1 * sigma).all()
