"""Poses in the camera of a box: exact by a rotation, and by how much img2pose's way is not."""

import math

import pytest
import torch
from face_pose_lab.torch_faces.box_camera import (
    box_rotation,
    pixels_per_radian,
    shifted_to_image,
    to_box,
    to_camera,
)
from face_pose_lab.torch_geometry import se3, so3
from helpers.asserts import assert_poses_close
from helpers.cameras import TORCH_LENSES, make_torch_camera
from helpers.scene import random_poses


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
def test_there_and_back_is_the_same_pose_with_any_lens(lens, generator):
    camera = make_torch_camera(lens)
    T = random_poses(200, camera, generator)
    uv = camera.project(T[:, :3, 3]).uv
    rays = camera.unproject(uv).rays
    T_box = to_box(T, rays)
    # The sellion lies on the axis of its own box camera, as far away as before.
    assert T_box[:, :2, 3].abs().max() < 1e-6
    assert_poses_close(to_camera(T_box, rays), T, max_deg=1e-5, max_mm=1e-6)


@pytest.mark.parametrize('lens', TORCH_LENSES)
def test_near_the_ray_the_image_is_the_boxs_picture_stretched_but_not_turned(lens):
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


def test_the_shear_of_img2pose_turns_half_as_far_as_the_ray(generator):
    f = 900.0
    K = torch.tensor([[f, 0, 497.3], [0, f, 338.1], [0, 0, 1]], dtype=torch.float64)
    T = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    T[:, 2, 3] = 1.5
    angles = torch.tensor([5.0, 15.0, 30.0], dtype=torch.float64).deg2rad()
    centre = torch.stack([497.3 + f * angles.tan(), torch.full_like(angles, 338.1)], -1)
    rays = torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()], -1)
    exact, shifted = to_camera(T, rays), shifted_to_image(T, K, centre)
    error = so3.angle_between(exact[:, :3, :3], shifted[:, :3, :3]).rad2deg()
    expected = [math.degrees(a - math.atan(math.tan(a) / 2)) for a in angles.tolist()]
    assert error.tolist() == pytest.approx(expected, abs=1e-6)
    assert error.tolist() == pytest.approx([2.5, 7.4, 13.9], abs=0.1)
    # The translation lies on the same ray, further away by the cosine.
    t = se3.apply(shifted, torch.zeros(1, 3, dtype=torch.float64))[:, 0]
    assert (torch.linalg.cross(t, rays).norm(dim=-1) / t.norm(dim=-1)).max() < 1e-9
