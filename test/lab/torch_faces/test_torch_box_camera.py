# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras turned straight towards a face, in torch."""

import pytest
import torch
from face_pose_lab.torch_faces.box_camera import box_rotation, pixels_per_radian
from face_pose_lab.torch_geometry import so3
from helpers.cameras import TORCH_LENSES, make_torch_camera


def random_rays(count: int, generator: torch.Generator) -> torch.Tensor:
    rays = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(rays, dim=-1)


def test_the_rotation_turns_the_axis_into_the_ray_by_the_smallest_angle(generator):
    rays = random_rays(1000, generator)
    R = box_rotation(rays)
    assert (R[..., 2] - rays).abs().max() < 1e-12
    assert (R.mT @ R - torch.eye(3)).abs().max() < 1e-8
    angle = so3.log(R).norm(dim=-1)
    assert (angle - rays[:, 2].acos()).abs().max() < 1e-6


def test_straight_back_is_half_a_turn():
    R = box_rotation(torch.tensor([0.0, 0.0, -1.0]))
    assert torch.equal(R, torch.diag(torch.tensor([1.0, -1.0, -1.0])))


@pytest.mark.parametrize('lens', TORCH_LENSES)
def test_near_the_ray_both_images_differ_by_a_stretch_and_no_rotation(lens):
    camera = make_torch_camera(lens)
    symmetric = lens == 'none'
    uv = torch.tensor([[120.0, 650.0], [800.0, 200.0], [497.3, 338.1]], dtype=torch.float64)
    rays = camera.unproject(uv).rays
    J = camera.project(rays, jacobian=True).J_uv_xyz
    A = (J @ box_rotation(rays)[..., :2]) / camera.f[:, None]
    turn = torch.atan2(A[:, 1, 0] - A[:, 0, 1], A[:, 0, 0] + A[:, 1, 1]).rad2deg()
    assert turn.abs().max() < (1e-6 if symmetric else 0.6)
    step = 1e-5
    beside = torch.nn.functional.normalize(rays + step * box_rotation(rays)[..., 0], dim=-1)
    along = (camera.project(beside).uv - camera.project(rays).uv).norm(dim=-1) / step
    ratio = along / pixels_per_radian(camera, rays)
    assert ((ratio > 0.75) & (ratio < 1.34)).all()
