"""Gradients of pose and shape with respect to the keypoints."""

import pytest
import torch
from face_pose_ros.pose.refine import PoseOptions, fit_pose
from helpers.cameras import make_camera
from helpers.scene import observe, random_poses, wavy_face

from face_pose_ros.geometry import so3
from face_pose_ros.results import Keypoints

_EXACT = {'step_tolerance': 1e-13, 'cost_tolerance': 1e-16, 'max_iterations': 60}


@pytest.mark.parametrize('kernel', ['none', 'geman_mcclure'])
@pytest.mark.parametrize('name', ['plumb_bob_5', 'equidistant'])
def test_gradcheck(name, kernel, generator):
    """The solver's answer against finite differences, through unprojection and whitening too."""
    camera = make_camera(name)
    few = wavy_face(modes=1).every(40)  # twelve keypoints
    T = random_poses(2, camera, generator, distance_m=(0.4, 0.8), yaw_deg=30)
    keypoints = observe(few.xyz_head, T, camera, noise_px=1, generator=generator)
    options = PoseOptions(kernel=kernel, visibility=False, **_EXACT)

    def solve(uv, cov_uv):
        symmetric = 0.5 * (cov_uv + cov_uv.mT)
        found = Keypoints(uv, symmetric, keypoints.presence)
        poses = fit_pose(found, few, camera, options, T_init=T).poses
        turned = so3.log(poses.T_cam_head[:, :3, :3] @ T[:, :3, :3].mT)
        return poses.T_cam_head[:, :3, 3], turned, poses.shape

    inputs = (keypoints.uv.clone().requires_grad_(), keypoints.cov_uv.clone().requires_grad_())
    assert torch.autograd.gradcheck(solve, inputs, eps=1e-5, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_a_hopeless_face_has_no_gradient_and_spoils_no_other(wavy, generator):
    camera = make_camera()
    T = random_poses(2, camera, generator, distance_m=(0.4, 0.8), yaw_deg=30)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    keypoints.cov_uv[1] = torch.inf
    uv = keypoints.uv.clone().requires_grad_()
    poses = fit_pose(Keypoints(uv, keypoints.cov_uv, keypoints.presence), wavy, camera).poses
    poses.T_cam_head[:, :3, 3].square().sum().backward()
    assert uv.grad is not None
    assert uv.grad.isfinite().all()
    assert uv.grad[0].abs().max() > 0
    assert uv.grad[1].abs().max() == 0


def test_learning_through_the_solver_lowers_the_error(wavy, generator):
    """What training does: keypoints move until the pose is right."""
    camera = make_camera()
    T = random_poses(3, camera, generator, distance_m=(0.4, 0.8), yaw_deg=30)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=3, generator=generator)
    uv = keypoints.uv.clone().requires_grad_()
    optimiser = torch.optim.SGD([uv], lr=4e3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        poses = fit_pose(Keypoints(uv, keypoints.cov_uv, keypoints.presence), wavy, camera).poses
        loss = (poses.T_cam_head[:, :3, :3] - T[:, :3, :3]).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
