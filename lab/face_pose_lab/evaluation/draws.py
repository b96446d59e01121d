# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random faces with known poses."""

from __future__ import annotations

import math

import torch

from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_geometry.camera import Camera

# Head frame (x out of the face, y left, z up) of a frontal face.
R_CAM_FRONTAL = torch.tensor([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]], dtype=torch.float64)


def random_poses(
    count: int,
    camera: Camera,
    generator: torch.Generator,
    distance_m: tuple[float, float] = (0.3, 8.0),
    yaw_deg: float = 90,
) -> torch.Tensor:
    """(count, 4, 4) T_cam_head: sellion near the image centre, any view."""

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
