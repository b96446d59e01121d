# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decodes the single-shot network in torch: see `face_pose_ros.faces.single_shot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_lab.torch_faces.box_camera import box_rotation, pixels_per_radian
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_ros.faces.single_shot import HEAD_CENTRE, HEAD_SIZE_M, STRIDES

# A stride answers for heads of 2 to 7 of its cells; the last one for all that are larger.
_SIZE_LIMITS_PX = (48.0, 112.0)


class CellPoses(NamedTuple):
    """Decoded output of M cells, each for the head whose centre is near it, in px of the image."""

    score: Tensor  # (M,) logit
    uv: Tensor  # (M, 2) px, middle of the head
    log_size: Tensor  # (M,) logarithm of the head's apparent size [px]
    columns: Tensor  # (M, 6) first two columns of R_box_head, before they are made orthonormal


def cell_poses(outputs: Sequence[Tensor]) -> CellPoses:
    """Decoded cells of all strides, (N, M, ...) with M the cells of one image."""
    parts = []
    for output, stride in zip(outputs, STRIDES, strict=True):
        height, width = output.shape[-2:]
        values = output.float().flatten(2).mT
        cells = cell_centres(height, width, stride).to(values)
        size = values[..., 3] + torch.log(values.new_tensor(float(stride)))
        uv = cells + stride * values[..., 1:3]
        parts.append(CellPoses(values[..., 0], uv, size, values[..., 4:]))
    return CellPoses(*(torch.cat(field, 1) for field in zip(*parts, strict=True)))


def cell_centres(height: int, width: int, stride: int) -> Tensor:
    """(height * width, 2) px of the picture, row by row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return (torch.stack([columns, rows], -1).flatten(0, 1) + 0.5) * stride - 0.5


def poses_in_camera(cells: CellPoses, camera: Camera) -> tuple[Tensor, Tensor]:
    """Poses T_cam_head (..., M, 4, 4) of cells, and whether the lens has rays for them.

    Args:
        cells: (..., M), in the pixels of the camera.
        camera: Of the picture, float64; `...` is the cameras' batch.
    """
    rays, valid = camera.unproject(cells.uv.to(camera.f))
    size_rad = cells.log_size.to(camera.f).exp() / pixels_per_radian(camera, rays)
    R = box_rotation(rays) @ so3.from_columns(cells.columns.to(camera.f))
    centre = rays * (HEAD_SIZE_M / size_rad)[..., None]
    to_sellion = (R @ R.new_tensor(HEAD_CENTRE)[:, None]).squeeze(-1)
    return se3.from_rt(R, centre - to_sellion), valid


def cells_of_poses(T_cam_head: Tensor, camera: Camera) -> tuple[CellPoses, Tensor]:
    """Cells for heads at poses (..., M, 4, 4): the inverse of `poses_in_camera`.

    The score is 0. Also whether the lens sees the head's middle. `...` is the cameras' batch.
    """
    R = T_cam_head[..., :3, :3]
    centre = se3.apply(T_cam_head, R.new_tensor(HEAD_CENTRE)[None])[..., 0, :]
    distance = centre.norm(dim=-1)
    rays = centre / distance[..., None]
    uv, valid, _ = camera.project(rays)
    size = pixels_per_radian(camera, rays) * HEAD_SIZE_M / distance
    columns = (box_rotation(rays).mT @ R)[..., :2].mT.flatten(-2)
    return CellPoses(torch.zeros_like(distance), uv, size.log(), columns), valid


def stride_of_size(size_px: Tensor) -> Tensor:
    """Index among STRIDES of the grid that answers for heads of these sizes [px]."""
    limits = size_px.new_tensor(_SIZE_LIMITS_PX)
    return torch.bucketize(size_px.contiguous(), limits)
