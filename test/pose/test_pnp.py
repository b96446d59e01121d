"""The closed-form starts."""

import pytest
import torch
from helpers.asserts import position_error_mm, rotation_error_deg
from helpers.cameras import DISTORTIONS, make_camera
from helpers.scene import observe, random_poses

from face_pose_ros.geometry import se3
from face_pose_ros.pose.pnp import solve_pnp_rays


@pytest.mark.parametrize('name', DISTORTIONS)
def test_closed_form_start_is_exact_without_noise(name, rigid, generator):
    camera = make_camera(name)
    T = random_poses(100, camera, generator)
    rays = camera.unproject(observe(rigid.xyz_head, T, camera).uv).rays
    start = solve_pnp_rays(rigid.xyz_head, rays, torch.ones_like(rays[..., 0]))
    T_start = se3.from_rt(start.R_cam_head[:, 0], start.t_cam_head[:, 0])
    good = (rotation_error_deg(T_start, T) < 0.01) & (position_error_mm(T_start, T) < 0.1)
    assert good.double().mean() >= 0.99
