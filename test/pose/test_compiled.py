"""The compiled solver is the torch solver."""

import pytest
import torch
from face_pose_ros.pose.refine import (
    PoseOptions,
    default_shape_prior,
    fit_pose,
    fit_pose_torch,
)
from helpers.cameras import DISTORTIONS, make_camera
from helpers.scene import observe, random_poses

from face_pose_ros.geometry import robust

_EXACT = {'step_tolerance': 1e-11, 'cost_tolerance': 1e-15, 'max_iterations': 60}


@pytest.mark.parametrize('kernel', robust.KERNELS)
@pytest.mark.parametrize('name', DISTORTIONS)
def test_same_answer(name, kernel, wavy, generator):
    camera = make_camera(name)
    T = random_poses(8, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    root = torch.eye(2).double() + 0.2 * torch.randn(8, 468, 2, 2, generator=generator).double()
    keypoints.cov_uv[:] = root @ root.mT
    keypoints.cov_uv[:, 5] = torch.inf
    options = PoseOptions(kernel=kernel, visibility=False, **_EXACT)
    prior = default_shape_prior(wavy, options)
    result = fit_pose(keypoints, wavy, camera, options)
    expected = fit_pose_torch(keypoints, wavy, camera, options, None, prior)
    assert torch.equal(result.poses.failed, expected.poses.failed)
    assert not result.poses.failed.any()
    for field, value in vars(result.poses).items():
        if field == 'failed':
            continue
        reference = getattr(expected.poses, field)
        scale = reference.abs().max()
        torch.testing.assert_close(
            value / scale, reference / scale, rtol=0, atol=1e-5, msg=lambda m, f=field: f'{f}: {m}'
        )
    torch.testing.assert_close(result.cost, expected.cost, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize('name', ['thin_prism_12', 'equidistant'])
def test_same_visibility(name, wavy, generator):
    """From one start the two rounds take the same way."""
    camera = make_camera(name)
    T = random_poses(8, camera, generator, distance_m=(0.5, 2), yaw_deg=80)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    options = PoseOptions(**_EXACT)
    prior = default_shape_prior(wavy, options)
    result = fit_pose(keypoints, wavy, camera, options, T_init=T)
    expected = fit_pose_torch(keypoints, wavy, camera, options, T, prior)
    torch.testing.assert_close(
        result.poses.T_cam_head, expected.poses.T_cam_head, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        result.poses.covariance, expected.poses.covariance, rtol=1e-4, atol=1e-9
    )


def test_threads_change_nothing(wavy, generator):
    camera = make_camera()
    T = random_poses(7, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    torch.set_num_threads(2)
    together = fit_pose(keypoints, wavy, camera).poses
    torch.set_num_threads(1)
    alone = fit_pose(keypoints, wavy, camera).poses
    assert torch.equal(together.T_cam_head, alone.T_cam_head)
    assert torch.equal(together.covariance, alone.covariance)
