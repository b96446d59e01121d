"""The fitted rotation follows the keypoints as finite differences say."""

import pytest
import torch
from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_types import Keypoints
from face_pose_lab.training.losses import NORMALISED_CAMERA
from face_pose_lab.training.through_solver import fitted_rotations, rotation_loss
from helpers.cameras import make_camera
from helpers.scene import observe, random_poses, wavy_face

FACE = wavy_face(4)


def keypoints_of(T: torch.Tensor, generator: torch.Generator, noise: float) -> Keypoints:
    return observe(FACE.xyz_head, T, NORMALISED_CAMERA, noise, noise or 1e-3, generator)


def poses(count: int, generator: torch.Generator) -> torch.Tensor:
    return random_poses(count, make_camera(), generator, (0.6, 1.0), yaw_deg=40)


def with_moved(keypoints: Keypoints, uv: torch.Tensor) -> Keypoints:
    return Keypoints(uv, keypoints.cov_uv, keypoints.presence)


def test_the_gradient_is_that_of_the_solver(generator):
    T = poses(3, generator)
    keypoints = keypoints_of(T, generator, 1e-3)
    weight = torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)

    def reading(uv):
        return (
            fitted_rotations(with_moved(keypoints, uv), T, FACE, NORMALISED_CAMERA)[0] * weight
        ).sum()

    uv = keypoints.uv.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reading(uv), uv)
    direction = torch.randn(uv.shape, generator=generator, dtype=torch.float64)
    step = 1e-4
    numeric = reading(keypoints.uv + step * direction) - reading(keypoints.uv - step * direction)
    # Gauss and Newton's Hessian is not the exact one: a tenth is what the residuals make of it.
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric) / 2 / step, rel=0.1)


def test_descent_along_it_improves_the_rotation(generator):
    T = poses(4, generator)
    keypoints = keypoints_of(T, generator, 4e-3)
    uv = keypoints.uv.clone()
    losses = []
    for _ in range(15):
        uv.requires_grad_()
        loss = rotation_loss(with_moved(keypoints, uv), T, FACE, NORMALISED_CAMERA)
        (gradient,) = torch.autograd.grad(loss, uv)
        uv = (uv - 2e-3 * gradient / gradient.norm()).detach()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_value_is_the_angle_of_the_solvers_own_answer(generator):
    T = poses(5, generator)
    keypoints = keypoints_of(T, generator, 2e-3)
    R, failed = fitted_rotations(keypoints, T, FACE, NORMALISED_CAMERA)
    assert not failed.any()
    angle = so3.angle_between(R, T[:, :3, :3]).rad2deg()
    assert 0.05 < angle.mean() < 5
    s = (angle / 10).square()
    expected = (2 * ((1 + s).sqrt() - 1)).mean()
    loss = rotation_loss(keypoints, T, FACE, NORMALISED_CAMERA)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_head_that_has_no_fit_takes_no_part(generator):
    T = poses(2, generator)
    keypoints = keypoints_of(T, generator, 1e-3)
    uv = keypoints.uv.clone()
    uv[1] = torch.nan
    uv.requires_grad_()
    loss = rotation_loss(with_moved(keypoints, uv), T, FACE, NORMALISED_CAMERA)
    (gradient,) = torch.autograd.grad(loss, uv)
    alone = rotation_loss(keypoints[torch.tensor([0])], T[:1], FACE, NORMALISED_CAMERA)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-9)
    assert gradient[0].isfinite().all()
    assert gradient[0].abs().max() > 0
