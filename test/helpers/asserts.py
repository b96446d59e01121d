"""Assertions that name the unit of what they allow."""

import torch

from face_pose_ros.geometry import so3


def rotation_error_deg(T_a: torch.Tensor, T_b: torch.Tensor) -> torch.Tensor:
    return so3.angle_between(T_a[..., :3, :3], T_b[..., :3, :3]).rad2deg()


def position_error_mm(T_a: torch.Tensor, T_b: torch.Tensor) -> torch.Tensor:
    return 1000 * (T_a[..., :3, 3] - T_b[..., :3, 3]).norm(dim=-1)


def assert_poses_close(T_a: torch.Tensor, T_b: torch.Tensor, max_deg: float, max_mm: float):
    """Every pose of T_a within max_deg and max_mm of its partner in T_b."""
    assert T_a.shape == T_b.shape
    worst_deg = rotation_error_deg(T_a, T_b).max().item()
    worst_mm = position_error_mm(T_a, T_b).max().item()
    assert worst_deg <= max_deg, f'{worst_deg:g} deg off, {max_deg:g} allowed'
    assert worst_mm <= max_mm, f'{worst_mm:g} mm off, {max_mm:g} allowed'
