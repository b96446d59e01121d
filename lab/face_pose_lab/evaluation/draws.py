"""Faces with a known pose, drawn at random."""

from __future__ import annotations

import math

import torch

from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.torch_types import Keypoints

# Head frame (x out of the face, y left, z up) of a face that looks straight into the camera.
R_CAM_FRONTAL = torch.tensor([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]], dtype=torch.float64)


def random_poses(
    count: int,
    camera: Camera,
    generator: torch.Generator,
    distance_m: tuple[float, float] = (0.3, 8.0),
    yaw_deg: float = 90,
) -> torch.Tensor:
    """(count, 4, 4) T_cam_head: sellion somewhere in the middle of the image, any view."""

    def uniform(*shape: int) -> torch.Tensor:
        return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1

    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    uv = 0.5 * size + 0.25 * size * uniform(count, 2)
    low, high = map(math.log, distance_m)
    distance = torch.exp(low + (high - low) * 0.5 * (1 + uniform(count, 1)))
    t = camera.unproject(uv).rays * distance
    yaw, pitch, roll = (uniform(count, 3) * torch.tensor([yaw_deg, 60, 60])).deg2rad().unbind(-1)
    zero = torch.zeros_like(yaw)
    R = (
        so3.exp(torch.stack([zero, zero, roll], -1))
        @ so3.exp(torch.stack([zero, yaw, zero], -1))
        @ so3.exp(torch.stack([pitch, zero, zero], -1))
        @ R_CAM_FRONTAL
    )
    return se3.from_rt(R, t)


def observe(
    xyz_head: torch.Tensor,
    T_cam_head: torch.Tensor,
    camera: Camera,
    noise_px: float = 0.0,
    sigma_px: float = 1.0,
    generator: torch.Generator | None = None,
) -> Keypoints:
    """Keypoints of faces at known poses, with Gaussian noise.

    Args:
        xyz_head: (K, 3) or (N, K, 3) m.
        T_cam_head: (N, 4, 4).
        camera: Who sees them.
        noise_px: Standard deviation of the noise.
        sigma_px: Standard deviation that the keypoints claim.
        generator: Of the noise.
    """
    uv = camera.project(se3.apply(T_cam_head, xyz_head)).uv
    if noise_px:
        uv = uv + noise_px * torch.randn(uv.shape, generator=generator, dtype=uv.dtype)
    sigma = torch.full_like(uv[..., 0], sigma_px)
    return Keypoints(uv, isotropic(sigma), torch.ones(len(uv)))


def isotropic(sigma_px: torch.Tensor) -> torch.Tensor:
    """Covariances (..., 2, 2) of standard deviations (...) that are the same in u and v."""
    return torch.diag_embed((sigma_px**2)[..., None].expand(*sigma_px.shape, 2))
