"""The covariance is the spread of the estimates."""

import pytest
import torch
from face_pose_ros.pose.refine import PoseOptions, fit_pose
from helpers.cameras import make_camera
from helpers.scene import observe, random_poses

from face_pose_ros.geometry import so3
from face_pose_ros.pose.face_model import deformable_face


def pose_error(T_found, T):
    """(N, 6) error (dt, omega) in the camera frame."""
    omega = so3.log(T_found[:, :3, :3] @ T[:, :3, :3].mT)
    return torch.cat([T_found[:, :3, 3] - T[:, :3, 3], omega], -1)


def squared_length(error, covariance):
    return (error * torch.linalg.solve(covariance, error)).sum(-1)


@pytest.mark.parametrize('kernel', ['none', 'huber', 'cauchy', 'geman_mcclure'])
def test_normalised_errors_are_chi_square(kernel, generator):
    """Unknown shapes, noisy keypoints: mean 6, and the quantiles of chi-square with 6 dof."""
    face, camera = deformable_face(), make_camera('plumb_bob_5')
    T = random_poses(4000, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    shape = torch.randn(4000, len(face.shape_names), generator=generator).double()
    keypoints = observe(
        face.points(shape), T, camera, noise_px=1.5, sigma_px=1.5, generator=generator
    )
    options = PoseOptions(kernel=kernel, independent_keypoints=1e9, visibility=False)
    poses = fit_pose(keypoints, face, camera, options).poses
    nees = squared_length(pose_error(poses.T_cam_head, T), poses.covariance)
    assert 5.7 < nees.mean() < 6.3  # its own spread is 0.05
    assert 0.65 < (nees < 7.038).double().mean() < 0.71
    assert 0.93 < (nees < 12.592).double().mean() < 0.97
    of_shape = squared_length(poses.shape - shape, poses.shape_covariance)
    assert 0.93 < of_shape.mean() / len(face.shape_names) < 1.07


def test_noise_that_sigma_did_not_promise_widens_the_covariance(wavy, generator):
    camera = make_camera()
    T = random_poses(600, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=3, sigma_px=1, generator=generator)
    options = PoseOptions(kernel='cauchy', independent_keypoints=1e9, visibility=False)
    poses = fit_pose(keypoints, wavy.keep('none'), camera, options).poses
    nees = squared_length(pose_error(poses.T_cam_head, T), poses.covariance)
    assert 5.2 < nees.mean() < 7


def test_parts_of_the_covariance_belong_together(wavy, generator):
    camera = make_camera()
    T = random_poses(20, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    poses = fit_pose(keypoints, wavy, camera).poses
    G, of_shape = poses.pose_of_shape, poses.shape_covariance
    torch.testing.assert_close(
        poses.covariance, poses.covariance_given_shape + G @ of_shape @ G.mT, rtol=1e-9, atol=1e-15
    )
    assert (torch.linalg.eigvalsh(poses.covariance) > 0).all()


def test_unknown_face_size_is_uncertainty_along_the_ray(wavy, generator):
    camera = make_camera()
    T = random_poses(4, camera, generator, distance_m=(2, 3), yaw_deg=30)
    size_only = wavy.keep('size')
    keypoints = observe(wavy.xyz_head, T, camera, sigma_px=0.1)
    poses = fit_pose(keypoints, size_only, camera).poses
    t = T[:, :3, 3]
    ray = t / t.norm(dim=-1, keepdim=True)
    sigma = (ray[:, None] @ poses.covariance[:, :3, :3] @ ray[..., None]).flatten().sqrt()
    # From afar the picture says nothing about the size.
    expected = torch.full_like(sigma, wavy.size_sigma)
    torch.testing.assert_close(sigma / t.norm(dim=-1), expected, rtol=0.05, atol=0)
    # Turning the head changes nothing: to the side the position is known far better.
    assert (torch.linalg.eigvalsh(poses.covariance[:, :3, :3])[:, 1].sqrt() < 0.1 * sigma).all()
