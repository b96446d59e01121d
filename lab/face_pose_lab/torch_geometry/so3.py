# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations: exponential, logarithm, quaternions, columns. Batched, differentiable.

Near the identity every function switches to its Taylor series behind a double ``where``: the
argument of the unused branch is replaced before the division, so gradients stay finite.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this squared angle [rad^2] the series are exact to double precision.
_SMALL_ANGLE_SQ = 1e-8


def hat(omega: Tensor) -> Tensor:
    """Skew-symmetric matrix of omega, so that ``hat(a) @ b == cross(a, b)``.

    Args:
        omega: (..., 3).

    Returns:
        (..., 3, 3).
    """
    x, y, z = omega.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def exp(omega: Tensor) -> Tensor:
    """Rotation matrix of a rotation vector (Rodrigues' formula).

    Args:
        omega: (..., 3) axis times angle [rad].

    Returns:
        (..., 3, 3) rotation matrices.
    """
    angle_sq = (omega * omega).sum(-1)
    small = angle_sq < _SMALL_ANGLE_SQ
    safe_sq = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe_sq.sqrt()
    sinc = torch.where(small, 1 - angle_sq / 6, angle.sin() / angle)
    cosc = torch.where(small, 0.5 - angle_sq / 24, (1 - angle.cos()) / safe_sq)
    K = hat(omega)
    eye = torch.eye(3, dtype=omega.dtype, device=omega.device)
    return eye + sinc[..., None, None] * K + cosc[..., None, None] * (K @ K)


def log(R: Tensor) -> Tensor:
    """Rotation vector of a rotation matrix, through the quaternion: exact up to half a turn.

    Args:
        R: (..., 3, 3) rotation matrices.

    Returns:
        (..., 3) axis times angle [rad], angle in [0, pi].
    """
    quat_xyzw = to_quat_xyzw(R)
    xyz, w = quat_xyzw[..., :3], quat_xyzw[..., 3]
    norm_sq = (xyz * xyz).sum(-1)
    small = norm_sq < _SMALL_ANGLE_SQ
    norm = torch.where(small, torch.ones_like(norm_sq), norm_sq).sqrt()
    # to_quat_xyzw returns w >= 0, so the angle stays within [0, pi].
    scale = torch.where(small, 2 + norm_sq / 3, 2 * torch.atan2(norm, w) / norm)
    return scale[..., None] * xyz


def to_quat_xyzw(R: Tensor) -> Tensor:
    """Unit quaternion (x, y, z, w) with w >= 0 of a rotation matrix (Shepperd's method).

    Args:
        R: (..., 3, 3) rotation matrices.

    Returns:
        (..., 4) quaternions, xyzw.
    """
    xx, xy, xz, yx, yy, yz, zx, zy, zz = R.flatten(-2).unbind(-1)
    # Row i is 4 q_i (x, y, z, w): the row with the largest q_i divides by the largest number.
    rows = torch.stack(
        [
            torch.stack([1 + xx - yy - zz, xy + yx, xz + zx, zy - yz], -1),
            torch.stack([xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx], -1),
            torch.stack([xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy], -1),
            torch.stack([zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz], -1),
        ],
        dim=-2,
    )
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = best[..., None, None].expand(*best.shape, 1, 4)
    quat = torch.nn.functional.normalize(rows.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(quat[..., 3:] < 0, -quat, quat)


def from_quat_xyzw(quat_xyzw: Tensor) -> Tensor:
    """Rotation matrix of a quaternion (x, y, z, w) of any non-zero length.

    Args:
        quat_xyzw: (..., 4).

    Returns:
        (..., 3, 3) rotation matrices.
    """
    x, y, z, w = torch.nn.functional.normalize(quat_xyzw, dim=-1).unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y - z * w),
            2 * (x * z + y * w),
            2 * (x * y + z * w),
            1 - 2 * (x * x + z * z),
            2 * (y * z - x * w),
            2 * (x * z - y * w),
            2 * (y * z + x * w),
            1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))


def from_columns(columns: Tensor) -> Tensor:
    """Rotations of their first two columns, not yet orthonormal, by Gram and Schmidt.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", CVPR 2019.

    Args:
        columns: (..., 6), finite; the first column, then the second.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    x = F.normalize(columns[..., :3], dim=-1)
    y = columns[..., 3:] - (x * columns[..., 3:]).sum(-1, keepdim=True) * x
    y = F.normalize(y, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def angle_between(R_a: Tensor, R_b: Tensor) -> Tensor:
    """Geodesic distance of two rotations.

    Args:
        R_a: (..., 3, 3).
        R_b: (..., 3, 3), broadcast against R_a.

    Returns:
        (...,) angle [rad] in [0, pi].
    """
    return log(R_a.mT @ R_b).norm(dim=-1)
