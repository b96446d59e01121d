# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms as 4x4 matrices: ``T_a_b`` is the pose of b in a, ``p_a = T_a_b @ p_b``."""

import torch
from torch import Tensor


def from_rt(R: Tensor, t: Tensor) -> Tensor:
    """4x4 transform of a rotation and a translation.

    Args:
        R: (..., 3, 3).
        t: (..., 3), same unit as the points it moves.

    Returns:
        (..., 4, 4).
    """
    top = torch.cat([R, t[..., None]], dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=R.dtype, device=R.device)
    return torch.cat([top, bottom.expand(*top.shape[:-2], 1, 4)], dim=-2)


def apply(T_a_b: Tensor, xyz_b: Tensor) -> Tensor:
    """Points of frame b in frame a.

    Args:
        T_a_b: (..., 4, 4).
        xyz_b: (..., P, 3).

    Returns:
        (..., P, 3).
    """
    return xyz_b @ T_a_b[..., :3, :3].mT + T_a_b[..., None, :3, 3]
