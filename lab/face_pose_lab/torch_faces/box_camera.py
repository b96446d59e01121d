"""Poses seen by a camera that looks straight at a face, and by the real camera.

A network that looks at a part of an image sees the face as a camera would that is turned towards
it: a head turned by 30 deg looks the same anywhere in the image only in such a *box camera*. It
shares the real camera's centre and its z axis is the ray through a pixel, so poses convert by a
rotation, exactly and for every lens:

    T_cam_head = [R_cam_box | 0] T_box_head.

R_cam_box is the smallest rotation that turns the optical axis into the ray. About a lens that is
symmetric about its axis it is also the right one: the picture of the box camera and the image then
differ, near the ray, by a stretch along and across the radius, and not by a turn.

img2pose (Albiero et al., CVPR 2021, and its utils/pose_operations.py) shifts the principal point,
K_box, instead of turning the camera, and converts rotations by R' = K_img^-1 K_box R. For a box at
a = (u_box - cx) / f beside the axis that is a shear by a, no rotation; the rotation nearest to it
turns by atan(a / 2), where the ray turns by atan(a). `shifted_to_image` is that conversion, to be
compared: near the axis it is wrong by half of the angle to the box.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.torch_geometry import se3, so3
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


def upright_rotation(rays: Tensor, up: Tensor) -> Tensor:
    """`box_rotation` (N, 3, 3), then rolled until `up` points up in the box camera's picture.

    Args:
        rays: (N, 3) unit vectors.
        up: (N, 3) in the camera's frame; any roll will do where it is the ray.
    """
    R_cam_box = box_rotation(rays)
    down = -(R_cam_box.mT @ up[..., None]).squeeze(-1)[..., :2]
    down = F.normalize(torch.where(down.norm(dim=-1, keepdim=True) > 1e-6, down, 1.0), dim=-1)
    x, y = down.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    roll = torch.stack([y, x, zero, -x, y, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    return R_cam_box @ roll


def to_camera(T_box_head: Tensor, rays: Tensor) -> Tensor:
    """Poses (..., 4, 4) in the real camera of poses in box cameras along unit rays (..., 3)."""
    R = box_rotation(rays)
    return se3.from_rt(R, torch.zeros_like(rays)) @ T_box_head


def to_box(T_cam_head: Tensor, rays: Tensor) -> Tensor:
    """The inverse of `to_camera`."""
    R = box_rotation(rays).mT
    return se3.from_rt(R, torch.zeros_like(rays)) @ T_cam_head


def pixels_per_radian(camera: Camera, rays: Tensor) -> Tensor:
    """(..., P) scale of the image at unit rays (..., P, 3): root of a steradian's area."""
    J_uv_xyz = camera.project(rays, jacobian=True).J_uv_xyz
    assert J_uv_xyz is not None
    across = box_rotation(rays)[..., :2]
    return torch.linalg.det(J_uv_xyz @ across).abs().sqrt()


def shifted_to_image(T_box_head: Tensor, K_image: Tensor, centre_uv: Tensor) -> Tensor:
    """img2pose's conversion of poses in a camera whose principal point is moved to the box.

    Without its change of the focal length, which only gives the distance another unit.

    Args:
        T_box_head: (..., 4, 4).
        K_image: (3, 3), fx = fy.
        centre_uv: (..., 2) px, centre of the box.
    """
    K_box = K_image.expand(*centre_uv.shape[:-1], 3, 3).clone()
    K_box[..., :2, 2] = centre_uv
    shear = torch.linalg.solve(K_image, K_box)
    R = so3.nearest(shear @ T_box_head[..., :3, :3])
    return se3.from_rt(R, (shear @ T_box_head[..., :3, 3:]).squeeze(-1))
