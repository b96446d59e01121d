# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faces with a known pose in front of a known camera, as tensors."""

from dataclasses import replace

import numpy as np
import torch
from face_pose_lab.evaluation import draws
from face_pose_lab.torch_geometry import se3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.torch_types import Keypoints

from face_pose_ros.geometry import camera as runtime
from face_pose_ros.pose.face_model import FaceModel, canonical_face

R_CAM_FRONTAL = torch.from_numpy(draws.R_CAM_FRONTAL)


def wavy_face(modes: int = 6) -> FaceModel:
    """The canonical face with smooth modes of some millimetres."""
    face, rng = canonical_face(), np.random.default_rng(7)
    directions, offsets = rng.random((modes, 3, 3)) - 0.5, rng.random((modes, 1, 3))
    waves = 0.002 * np.sin(60 * face.xyz_head @ directions + 6 * offsets)
    names = (*(f'identity_{i + 1}' for i in range(modes - 1)), 'jaw_open')
    return replace(face, modes=waves, mode_names=names)


def points(model: FaceModel, shape: torch.Tensor | None = None) -> torch.Tensor:
    """(N, K, 3) m of shapes (N, C), or (K, 3) of the mean shape."""
    xyz_head = torch.from_numpy(model.xyz_head)
    if shape is None:
        return xyz_head
    deviation = torch.einsum('nm,mkx->nkx', shape[:, 1:], torch.from_numpy(model.modes))
    return (1 + model.size_sigma * shape[:, :1, None]) * (xyz_head + deviation)


def random_poses(
    count: int,
    camera: Camera,
    generator: torch.Generator,
    distance_m: tuple[float, float] = (0.3, 8.0),
    yaw_deg: float = 90.0,
) -> torch.Tensor:
    """(count, 4, 4) T_cam_head, see `draws.random_poses`."""
    rng = np.random.default_rng(int(torch.randint(1 << 31, (), generator=generator)))
    (fx, fy), (cx, cy) = camera.f.tolist(), camera.c.tolist()
    K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    lens = runtime.Camera.from_K(
        K, camera.width, camera.height, camera.dist.numpy(), camera.distortion_model
    )
    return torch.from_numpy(draws.random_poses(count, lens, rng, distance_m, yaw_deg))


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
