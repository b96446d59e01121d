# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras turned straight towards a face, in torch: see `face_pose_ros.faces.box_camera`."""

from __future__ import annotations

import torch
from torch import Tensor

from face_pose_lab.torch_geometry.camera import Camera


def box_rotation(rays: Tensor) -> Tensor:
    """R_cam_box (..., 3, 3): the smallest rotation of (0, 0, 1) into unit rays (..., 3).

    Differentiable; for the ray (0, 0, -1), which has no smallest one, half a turn about x.
    """
    x, y, z = rays.unbind(-1)
    behind = z < -1 + 1e-6
    inv = 1 / torch.where(behind, torch.ones_like(z), 1 + z)
    R = torch.stack(
        [1 - x * x * inv, -x * y * inv, x, -x * y * inv, 1 - y * y * inv, y, -x, -y, z], -1
    ).unflatten(-1, (3, 3))
    half_turn = torch.diag(rays.new_tensor([1.0, -1.0, -1.0]))
    return torch.where(behind[..., None, None], half_turn, R)


def pixels_per_radian(camera: Camera, rays: Tensor) -> Tensor:
    """(..., P) scale of the image at unit rays (..., P, 3): root of a steradian's area."""
    J_uv_xyz = camera.project(rays, jacobian=True).J_uv_xyz
    assert J_uv_xyz is not None
    across = box_rotation(rays)[..., :2]
    return torch.linalg.det(J_uv_xyz @ across).abs().sqrt()
