# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The loss is that of the solver's own answer, and descent along it improves the rotation."""

import pytest
import torch
from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_types import Keypoints
from face_pose_lab.training.losses import NORMALISED_CAMERA
from face_pose_lab.training.through_solver import OPTIONS, rotation_loss
from helpers import heads
from helpers.cameras import make_camera

from face_pose_ros import results
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.pose.fit import fit_pose

FACE = deformable_face().keep('identity_1', 'identity_2', 'identity_3').every(4)


def keypoints_of(T: torch.Tensor, rng, noise: float) -> Keypoints:
    found = heads.observe(FACE.xyz_head, T.numpy(), NORMALISED_CAMERA, noise, noise, rng)
    return Keypoints(*(torch.from_numpy(x) for x in (found.uv, found.cov_uv, found.presence)))


def poses(count: int, rng) -> torch.Tensor:
    return torch.from_numpy(heads.random_poses(count, make_camera(), rng, (0.6, 1.0), 40))


def with_moved(keypoints: Keypoints, uv: torch.Tensor) -> Keypoints:
    return Keypoints(uv, keypoints.cov_uv, keypoints.presence)


def test_descent_along_it_improves_the_rotation(rng):
    T = poses(4, rng)
    keypoints = keypoints_of(T, rng, 4e-3)
    uv = keypoints.uv.clone()
    losses = []
    for _ in range(15):
        uv.requires_grad_()
        loss = rotation_loss(with_moved(keypoints, uv), T, FACE, NORMALISED_CAMERA)
        (gradient,) = torch.autograd.grad(loss, uv)
        uv = (uv - 2e-3 * gradient / gradient.norm()).detach()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_value_is_the_angle_of_the_solvers_own_answer(rng):
    T = poses(5, rng)
    keypoints = keypoints_of(T, rng, 2e-3)
    arrays = (x.numpy() for x in (keypoints.uv, keypoints.cov_uv, keypoints.presence))
    fit = fit_pose(results.Keypoints(*arrays), FACE, NORMALISED_CAMERA, OPTIONS, T.numpy()).poses
    assert not fit.failed.any()
    R = torch.from_numpy(fit.T_cam_head[:, :3, :3])
    angle = so3.angle_between(R, T[:, :3, :3]).rad2deg()
    assert 0.05 < angle.mean() < 5
    s = (angle / 10).square()
    expected = (2 * ((1 + s).sqrt() - 1)).mean()
    loss = rotation_loss(keypoints, T, FACE, NORMALISED_CAMERA)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_head_that_has_no_fit_takes_no_part(rng):
    T = poses(2, rng)
    keypoints = keypoints_of(T, rng, 1e-3)
    uv = keypoints.uv.clone()
    uv[1] = torch.nan
    uv.requires_grad_()
    loss = rotation_loss(with_moved(keypoints, uv), T, FACE, NORMALISED_CAMERA)
    (gradient,) = torch.autograd.grad(loss, uv)
    alone = rotation_loss(keypoints[torch.tensor([0])], T[:1], FACE, NORMALISED_CAMERA)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-9)
    assert gradient[0].isfinite().all()
    assert gradient[0].abs().max() > 0
