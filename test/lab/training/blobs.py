# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads of coloured blobs: pictures whose labels are exact, drawn in a moment."""

import numpy as np
import torch
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.training.batches import CropBatch
from helpers.scene import R_CAM_FRONTAL

# Head frame [m]; pairs of mirror partners have one colour.
POINTS = torch.tensor(
    [
        [0.00, 0.00, 0.00],
        [0.03, 0.00, -0.05],
        [-0.01, 0.00, -0.11],
        [-0.01, 0.04, 0.00],
        [-0.01, -0.04, 0.00],
        [-0.09, 0.07, -0.02],
        [-0.09, -0.07, -0.02],
        [-0.02, 0.03, -0.08],
        [-0.02, -0.03, -0.08],
    ],
    dtype=torch.float64,
)
MIRROR = np.array([0, 1, 2, 4, 3, 6, 5, 8, 7])
COLOURS = torch.tensor(
    [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], *2 * [[1, 1, 0]], *2 * [[1, 0, 1]], *2 * [[0, 1, 1]]]
)


class BlobHeads:
    """Crops by index, each always the same."""

    def __init__(self, count: int, size_px: int = 32) -> None:
        self.count = count
        self.size_px = size_px

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: np.ndarray) -> CropBatch:
        return blob_heads([int(i) for i in indices], self.size_px)


def blob_heads(seeds: list[int], size_px: int) -> CropBatch:
    draws = torch.stack(
        [
            torch.rand(9, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
            for s in seeds
        ]
    )
    yaw, pitch, roll = ((draws[:, :3] - 0.5) * torch.tensor([1.2, 0.6, 0.5])).unbind(-1)
    zero = torch.zeros_like(yaw)
    R = (
        so3.exp(torch.stack([zero, zero, roll], -1))
        @ so3.exp(torch.stack([zero, yaw, zero], -1))
        @ so3.exp(torch.stack([pitch, zero, zero], -1))
        @ R_CAM_FRONTAL
    )
    t = torch.tensor([0.0, 0.03, 0.8]) + (draws[:, 3:6] - 0.5) * torch.tensor([0.04, 0.04, 0.2])
    T = se3.from_rt(R, t)
    xyz = POINTS * (0.95 + 0.1 * draws[:, 6:9])[:, None]
    f = torch.full((len(seeds),), 2.6 * size_px, dtype=torch.float64)
    c = torch.full((len(seeds), 2), 0.5 * (size_px - 1), dtype=torch.float64)
    points = se3.apply(T, xyz)
    uv = f[:, None, None] * points[..., :2] / points[..., 2:] + c[:, None]
    return CropBatch(
        pictures=draw_blobs(uv.float(), size_px, size_px),
        uv=uv.float(),
        visible=torch.ones(uv.shape[:2], dtype=torch.bool),
        xyz_head=xyz,
        f=f,
        c=c,
        T_crop_head=T,
        head_size_px=(0.24 * f / t[:, 2]).float(),
    )


def draw_blobs(uv: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, 3, H, W) uint8: a Gaussian of its colour at each keypoint (B, K, 2), on dark grey."""
    sigma = min(height, width) / 24
    u = (-0.5 * ((torch.arange(width) - uv[..., :1]) / sigma).square()).exp()
    v = (-0.5 * ((torch.arange(height) - uv[..., 1:]) / sigma).square()).exp()
    blobs = v[..., :, None] * u[..., None, :]
    picture = 0.2 + torch.einsum('bkhw,kc->bchw', blobs, COLOURS - 0.2)
    return (255 * picture.clamp(0, 1)).round().to(torch.uint8)
