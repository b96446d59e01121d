# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Properties of rotations and rigid transforms, over batch shapes and near the identity."""

import cv2
import numpy as np
import pytest
import torch
from face_pose_lab.torch_geometry import se3, so3

BATCHES = [(), (1,), (3, 1, 2)]


def rotation_vectors(batch, generator, largest=3.1):
    """Angles over the whole range, with some elements next to the identity."""
    axis = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    angle = largest * torch.rand(*batch, 1, generator=generator, dtype=torch.float64)
    tiny = torch.rand(*batch, 1, generator=generator) < 0.3
    return axis * torch.where(tiny, 1e-7 * angle, angle)


@pytest.mark.parametrize('batch', BATCHES)
def test_exp_is_a_rotation_and_log_inverts_it(batch, generator):
    omega = rotation_vectors(batch, generator)
    R = so3.exp(omega)
    eye = torch.eye(3, dtype=torch.float64).expand(*batch, 3, 3)
    torch.testing.assert_close(R @ R.mT, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(batch, dtype=torch.float64))
    torch.testing.assert_close(so3.log(R), omega, rtol=1e-9, atol=1e-12)


def test_exp_agrees_with_opencv(generator):
    for omega in rotation_vectors((20,), generator):
        expected, _ = cv2.Rodrigues(omega.numpy())
        np.testing.assert_allclose(so3.exp(omega).numpy(), expected, atol=1e-12)


def test_log_at_half_a_turn():
    for axis in torch.eye(3, dtype=torch.float64):
        torch.testing.assert_close(so3.log(so3.exp(np.pi * axis)).abs(), np.pi * axis)


@pytest.mark.parametrize('scale', [0.0, 1e-9, 1e-4, 1.0])
def test_gradients_are_finite_and_right(scale):
    omega = scale * torch.tensor([0.3, -0.5, 0.2], dtype=torch.float64)
    assert torch.autograd.gradcheck(so3.exp, omega.requires_grad_())
    assert torch.autograd.gradcheck(lambda w: so3.log(so3.exp(w)), omega)


@pytest.mark.parametrize('batch', BATCHES)
def test_quaternion_round_trip(batch, generator):
    R = so3.exp(rotation_vectors(batch, generator, largest=np.pi))
    quat_xyzw = so3.to_quat_xyzw(R)
    assert (quat_xyzw[..., 3] >= 0).all()
    torch.testing.assert_close(so3.from_quat_xyzw(quat_xyzw), R, rtol=0, atol=1e-12)
    torch.testing.assert_close(so3.from_quat_xyzw(-2.5 * quat_xyzw), R, rtol=0, atol=1e-12)


def test_quaternion_layout_is_xyzw():
    quarter_turn_about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    half = 0.5**0.5
    torch.testing.assert_close(
        so3.to_quat_xyzw(quarter_turn_about_z), torch.tensor([0, 0, half, half])
    )


def test_angle_between(generator):
    R = so3.exp(rotation_vectors((5,), generator))
    omega = torch.tensor([0.2, -0.1, 0.4], dtype=torch.float64)
    torch.testing.assert_close(
        so3.angle_between(R, R @ so3.exp(omega)), omega.norm().expand(5), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize('batch', BATCHES)
def test_se3_moves_points(batch, generator):
    t = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    T_a_b = se3.from_rt(so3.exp(rotation_vectors(batch, generator)), t)
    xyz_b = torch.randn(*batch, 6, 3, generator=generator, dtype=torch.float64)
    homogeneous = torch.cat([xyz_b, torch.ones_like(xyz_b[..., :1])], -1)
    expected = (T_a_b[..., None, :, :] @ homogeneous[..., None])[..., :3, 0]
    torch.testing.assert_close(se3.apply(T_a_b, xyz_b), expected)


def test_columns_of_any_length_give_rotations(generator):
    columns = 3 * torch.randn(100, 6, generator=generator, dtype=torch.float64)
    R = so3.from_columns(columns)
    eye = torch.eye(3, dtype=torch.float64)
    assert (R.mT @ R - eye).abs().max() < 1e-12
    assert (torch.linalg.det(R) - 1).abs().max() < 1e-12
    assert torch.allclose(so3.from_columns(R[..., :2].mT.flatten(-2)), R)
