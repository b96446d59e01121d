# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The solver as a layer: the same answers, and gradients that finite differences confirm."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.pose_layer import fitted_poses, posterior_cost
from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_types import Keypoints
from helpers import heads
from helpers.cameras import make_camera

from face_pose_ros.options import KERNELS, PoseOptions
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.pose.fit import fit_pose

_EXACT = {'step_tolerance': 1e-13, 'cost_tolerance': 1e-16, 'max_iterations': 60}


def face(stride, *kept):
    return deformable_face().keep(*kept).every(stride)


def seen(model, count, camera, rng, noise_px):
    T = heads.random_poses(count, camera, rng, distance_m=(0.4, 0.8), yaw_deg=30)
    found = heads.observe(model.xyz_head, T, camera, noise_px=noise_px, rng=rng)
    return found, torch.from_numpy(T)


def tensors(found):
    return Keypoints(*(torch.from_numpy(x) for x in (found.uv, found.cov_uv, found.presence)))


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('name', ['thin_prism_12', 'equidistant'])
def test_its_cost_is_the_solvers(name, kernel, rng):
    camera, model = make_camera(name), face(8, 'identity', 'jaw')
    found, _ = seen(model, 3, camera, rng, noise_px=2)
    found.cov_uv[:, 3] = np.inf
    options = PoseOptions(kernel=kernel, visibility=False, **_EXACT)
    fit = fit_pose(found, model, camera, options)
    R, t = (torch.from_numpy(x) for x in (fit.poses.T_cam_head[:, :3, :3], fit.poses.T_cam_head))
    modes = torch.from_numpy(fit.poses.shape[:, 1:])
    uv, cov_uv = torch.from_numpy(found.uv), torch.from_numpy(found.cov_uv)
    cost = posterior_cost(R, t[:, :3, 3], modes, uv, cov_uv, model, camera, options)
    np.testing.assert_allclose(cost.numpy(), fit.cost, rtol=1e-9)


@pytest.mark.parametrize('kernel', ['none', 'geman_mcclure'])
@pytest.mark.parametrize('name', ['plumb_bob_5', 'equidistant'])
def test_gradcheck(name, kernel, rng):
    """Against finite differences, through unprojection and whitening too."""
    camera, model = make_camera(name), face(40, 'size', 'identity_1')
    found, T = seen(model, 2, camera, rng, noise_px=1)
    options = PoseOptions(kernel=kernel, visibility=False, **_EXACT)

    def solve(uv, cov_uv):
        symmetric = 0.5 * (cov_uv + cov_uv.mT)
        keypoints = Keypoints(uv, symmetric, torch.ones(2))
        R, t, shape, _ = fitted_poses(keypoints, model, camera, options, T)
        return t, so3.log(R @ T[:, :3, :3].mT), shape

    inputs = [torch.from_numpy(x).requires_grad_() for x in (found.uv, found.cov_uv)]
    # The minimum is found to about 1e-8: a step below a thousandth of a pixel would divide that.
    assert torch.autograd.gradcheck(solve, inputs, eps=1e-3, atol=1e-4, rtol=1e-4, fast_mode=True)


def test_a_hopeless_face_has_no_gradient_and_spoils_no_other(rng):
    camera, model = make_camera(), face(4, 'identity')
    found, _ = seen(model, 2, camera, rng, noise_px=1)
    found.cov_uv[1] = np.inf
    keypoints = tensors(found)
    uv = keypoints.uv.clone().requires_grad_()
    fitted = fitted_poses(replace(keypoints, uv=uv), model, camera, PoseOptions(visibility=False))
    assert fitted.failed.tolist() == [False, True]
    fitted.t_cam_head.square().sum().backward()
    assert uv.grad.isfinite().all()
    assert uv.grad[0].abs().max() > 0
    assert uv.grad[1].abs().max() == 0


def test_learning_through_the_solver_lowers_the_error(rng):
    """As in training: keypoints move until the pose is right."""
    camera, model = make_camera(), face(4, 'identity')
    found, T = seen(model, 3, camera, rng, noise_px=3)
    keypoints = tensors(found)
    uv = keypoints.uv.clone().requires_grad_()
    optimiser = torch.optim.Adam([uv], lr=0.3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        moved = replace(keypoints, uv=uv)
        fitted = fitted_poses(moved, model, camera, PoseOptions(visibility=False))
        loss = (fitted.R_cam_head - T[:, :3, :3]).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_visibility_is_refused():
    nothing = Keypoints(torch.zeros(0, 4, 2), torch.zeros(0, 4, 2, 2), torch.zeros(0))
    with pytest.raises(ValueError, match='visibility is true, and must be false'):
        fitted_poses(nothing, face(4, 'size'), make_camera(), PoseOptions(visibility=True))
