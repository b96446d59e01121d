# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation of batches: position of the head, and appearance of the image.

Random numbers come from generators, so that a step gives the same images after a resume. Geometry
keeps the labels exact: an affine map of the image is a rolled camera with another focal length and
principal point. Crops are moved on the CPU, where they are read; their appearance is changed on
the network's device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.torch_geometry import so3
from face_pose_lab.training.batches import CropBatch


@dataclass(frozen=True)
class AugmentOptions:
    """Strength of each augmentation; a probability is the share of changed images."""

    flip: float = 0.5
    roll_deg: float = 6.0  # standard deviation, in addition to the data's own
    log_scale: float = 0.08  # likewise
    shift: float = 0.03  # likewise, of the side
    colour: float = 0.6  # exposure, contrast, saturation, tint, gamma
    grey: float = 0.15
    harsh: float = 0.1  # channels mixed, contrast far up or down
    filtered: float = 0.15  # a random convolution of the colours, mixed with the picture
    gradient: float = 0.25  # illumination gradient across the image
    blur: float = 0.15
    coarse: float = 0.15  # downscaled and upscaled
    noise: float = 0.4
    jpeg: float = 0.15
    occlusion: float = 0.25
    border: float = 0.25  # cut off by the border of the image: black or replicated


def move_crops(
    batch: CropBatch,
    mirror: Tensor,
    options: AugmentOptions,
    size_px: int,
    generator: torch.Generator,
) -> CropBatch:
    """Other views of the same heads.

    Args:
        batch: B crops, uint8, on the CPU.
        mirror: (K,) index of each keypoint in the mirrored head.
        options: Strength.
        size_px: Side of the new crops.
        generator: On the CPU.
    """
    draw = _Draw(len(batch.pictures), generator)
    flip = draw.happens(options.flip)
    roll = draw.normal() * math.radians(options.roll_deg)
    scale = (draw.normal() * options.log_scale).exp()
    shift = draw.normal(2) * options.shift * size_px
    return _warp(batch, mirror, size_px, flip, roll, scale, shift)


def resized_crops(batch: CropBatch, mirror: Tensor, size_px: int) -> CropBatch:
    """The same crops, unchanged but for their size: for validation."""
    count = len(batch.pictures)
    zero = batch.uv.new_zeros(count)
    no = torch.zeros(count, dtype=torch.bool, device=zero.device)
    return _warp(batch, mirror, size_px, no, zero, zero + 1, zero.new_zeros(count, 2))


def _warp(
    batch: CropBatch,
    mirror: Tensor,
    size_px: int,
    flip: Tensor,
    roll: Tensor,
    scale: Tensor,
    shift: Tensor,
) -> CropBatch:
    """Crops of size_px whose centre is that of the old ones, turned, scaled and shifted."""
    old_px = batch.pictures.shape[-1]
    sign = torch.where(flip, -1.0, 1.0).to(roll)
    zoom = scale * size_px / old_px
    cos, sin = roll.cos(), roll.sin()
    turn = torch.stack([cos, -sin, sin, cos], -1).unflatten(-1, (2, 2))
    mirrored = torch.diag_embed(torch.stack([sign, torch.ones_like(sign)], -1))
    A = zoom[:, None, None] * turn @ mirrored  # new = A (old - middle) + new middle + shift
    middle, new_middle = 0.5 * (old_px - 1), 0.5 * (size_px - 1)

    def moved(uv: Tensor) -> Tensor:
        return (uv - middle) @ A.mT.to(uv) + new_middle + shift[:, None].to(uv)

    offset = new_middle + shift - A @ A.new_tensor([middle, middle])
    affine = torch.cat([A, offset[..., None]], -1).double().numpy()
    pictures = np.empty((len(A), size_px, size_px, 3), np.uint8)
    old = batch.pictures.permute(0, 2, 3, 1).contiguous().numpy()
    for i, picture in enumerate(old):
        cv2.warpAffine(
            picture, affine[i], (size_px, size_px), pictures[i], cv2.INTER_LINEAR,
            cv2.BORDER_REPLICATE,
        )  # fmt: skip

    def partners(values: Tensor) -> Tensor:
        where = flip.view(-1, *[1] * (values.ndim - 1))
        return torch.where(where, values[:, mirror], values)

    double = batch.T_crop_head.dtype
    side = torch.tensor([1.0, -1.0, 1.0], dtype=double, device=roll.device)
    xyz = torch.where(flip[:, None, None], batch.xyz_head[:, mirror] * side, batch.xyz_head)
    # Mirror the camera's x and the head's y: two reflections make a rotation again.
    T = batch.T_crop_head.clone()
    camera_x = torch.stack([sign, *[torch.ones_like(sign)] * 2], -1).to(double)
    head_y = torch.stack([torch.ones_like(sign), sign, torch.ones_like(sign)], -1).to(double)
    about_z = so3.exp(torch.stack([*[torch.zeros_like(roll)] * 2, roll], -1).to(double))
    T[:, :3, :3] = about_z @ (camera_x[:, :, None] * T[:, :3, :3] * head_y[:, None])
    T[:, :3, 3:] = about_z @ (camera_x[:, :, None] * T[:, :3, 3:])
    return CropBatch(
        pictures=torch.from_numpy(pictures).permute(0, 3, 1, 2),
        uv=partners(moved(batch.uv)),
        visible=partners(batch.visible),
        xyz_head=xyz,
        f=batch.f * zoom.to(double),
        c=moved(batch.c[:, None])[:, 0],
        T_crop_head=T,
        head_size_px=batch.head_size_px * zoom,
    )


def photometric(x: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Change the appearance of images (B, 3, H, W) in [0, 1], not their geometry."""
    draw = _Draw(len(x), generator)
    x = _colour(x, options, draw)
    for change, share in (
        (_harsh, options.harsh),
        (_filtered, options.filtered),
        (_gradient, options.gradient),
        (_occlude, options.occlusion),
        (_border, options.border),
        (_blur, options.blur),
        (_coarse, options.coarse),
        (_noise, options.noise),
        (_jpeg, options.jpeg),
    ):
        chosen = draw.happens(share).nonzero()[:, 0]
        if len(chosen):
            x[chosen] = change(x[chosen], generator)
    return x.clamp_(0, 1)


class _Draw:
    """Random numbers, one or more for each of B images."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        device = self.generator.device
        rand = torch.rand(self.count, *shape, generator=self.generator, device=device)
        return low + (high - low) * rand

    def normal(self, *shape: int) -> Tensor:
        device = self.generator.device
        return torch.randn(self.count, *shape, generator=self.generator, device=device)

    def happens(self, share: float) -> Tensor:
        return self.uniform(0, 1) < share


def _colour(x: Tensor, options: AugmentOptions, draw: _Draw) -> Tensor:
    on = draw.happens(options.colour).float()
    contrast = (0.22 * on * draw.normal()).exp()
    gain = (0.15 * on * draw.normal()).exp()
    saturation = (0.3 * on * draw.normal()).exp()
    saturation = torch.where(draw.happens(options.grey), 0.0, saturation)
    tint = (0.1 * on[:, None] * draw.normal(3)).exp()
    gamma = (0.3 * on * draw.normal()).exp()
    luma = x.new_tensor([0.299, 0.587, 0.114]).expand(3, 3)
    M = saturation[:, None, None] * torch.eye(3, device=x.device)
    M = tint[:, :, None] * (M + (1 - saturation)[:, None, None] * luma)
    M = (gain * contrast)[:, None, None] * M
    offset = (gain * 0.43 * (1 - contrast))[:, None, None, None]
    x = torch.einsum('bij,bjhw->bihw', M, x) + offset
    return x.clamp(1e-4, 1) ** gamma[:, None, None, None]


def _harsh(x: Tensor, generator: torch.Generator) -> Tensor:
    """Strong colour filters: large black or white areas, other colours."""
    draw = _Draw(len(x), generator)
    mixing = (1.5 * draw.normal(3, 3)).softmax(-1)
    contrast = (0.5 + 0.5 * draw.normal()).exp()[:, None, None, None]
    pivot = draw.uniform(0.2, 0.8)[:, None, None, None]
    return (0.5 + contrast * (torch.einsum('bij,bjhw->bihw', mixing, x) - pivot)).clamp(0, 1)


def _filtered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random convolutions: other textures, sharper edges, false colours; shapes stay.

    Random convolutions (Xu et al., "Robust and Generalizable Visual Representation Learning via
    Random Convolutions", ICLR 2021, section 3), here about mid-grey.
    """
    draw = _Draw(len(x), generator)
    side, middle = 5, 2
    reach = draw.uniform(0, middle + 1).floor()[:, None]  # kernels of 1, 3 or 5 pixels
    near = (torch.arange(side, device=x.device) - middle).abs() <= reach
    kernel = draw.normal(3, 3, side, side) * (near[:, :, None] & near[:, None])[:, None, None]
    kernel = kernel / (math.sqrt(3) * (2 * reach[:, :, None, None, None] + 1))
    grey = F.pad(x - 0.5, (middle, middle, middle, middle), mode='replicate')
    other = F.conv2d(grey.flatten(0, 1)[None], kernel.flatten(0, 1), groups=len(x))[0]
    share = draw.uniform(0, 1)[:, None, None, None]
    return (x + share * (other.view_as(x) + 0.5 - x)).clamp(0, 1)


def _coordinates(x: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (1, 1, 1, W) and rows (1, 1, H, 1), from -1 to 1."""
    height, width = x.shape[-2:]
    columns = torch.linspace(-1, 1, width, device=x.device)
    return columns.view(1, 1, 1, -1), torch.linspace(-1, 1, height, device=x.device).view(
        1, 1, -1, 1
    )


def _gradient(x: Tensor, generator: torch.Generator) -> Tensor:
    draw = _Draw(len(x), generator)
    angle = draw.uniform(0, 2 * math.pi)[:, None, None, None]
    slope = (0.5 * draw.normal())[:, None, None, None]
    columns, rows = _coordinates(x)
    along = columns * angle.cos() + rows * angle.sin()
    sharp = draw.uniform(0, 1)[:, None, None, None]
    along = torch.where(sharp < 0.3, (along * (2 + 30 * sharp)).tanh(), along)
    return x * (slope * along).exp()


def _occlude(x: Tensor, generator: torch.Generator) -> Tensor:
    """Ellipses and rectangles of one colour, or cut from another image."""
    columns, rows = _coordinates(x)
    for _ in range(2):
        draw = _Draw(len(x), generator)
        u, v, a, b, kind, angle = draw.uniform(0, 1, 6)[..., None, None, None].unbind(1)
        du, dv = columns - (2 * u - 1), rows - (2 * v - 1)
        cos, sin = (math.pi * angle).cos(), (math.pi * angle).sin()
        p = (du * cos + dv * sin).abs() / (0.08 + 0.4 * a)
        q = (dv * cos - du * sin).abs() / (0.08 + 0.4 * b)
        inside = torch.where(kind < 0.5, p * p + q * q < 1, torch.maximum(p, q) < 1)
        colour = draw.uniform(0, 1, 3, 1, 1)
        other = torch.where((kind * 4 % 1) < 0.4, x.roll(1, 0), colour)
        x = torch.where(inside, other, x)
    return x


def _border(x: Tensor, generator: torch.Generator) -> Tensor:
    """The area of a crop beyond the border of the image."""
    draw = _Draw(len(x), generator)
    height, width = x.shape[-2:]
    columns, rows = _coordinates(x)
    left, top = draw.uniform(-1.6, -0.6, 2).clamp_min(-1)[..., None, None].unbind(1)
    right, bottom = draw.uniform(0.6, 1.6, 2).clamp_max(1)[..., None, None].unbind(1)
    columns, rows = columns[0], rows[0]
    u = columns.clamp(left, right).expand(-1, height, -1)
    v = rows.clamp(top, bottom).expand(-1, -1, width)
    repeated = F.grid_sample(x, torch.stack([u, v], -1), 'nearest', 'border', True)
    outside = (columns < left) | (columns > right) | (rows < top) | (rows > bottom)
    black = draw.happens(0.5)[:, None, None] & outside
    return torch.where(black[:, None], 0.0, repeated)


def _blur(x: Tensor, generator: torch.Generator) -> Tensor:
    sigma = _Draw(len(x), generator).uniform(0.4, 1.6)
    taps = torch.arange(-4, 5, device=x.device)
    kernel = (-0.5 * (taps / sigma[:, None]).square()).exp()
    kernel = (kernel / kernel.sum(-1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(x, (4, 4, 4, 4), mode='replicate').flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel[:, None, None], groups=flat.shape[1])
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=flat.shape[1])
    return flat.view_as(x)


def _coarse(x: Tensor, generator: torch.Generator) -> Tensor:
    """The resolution of faces far away."""
    height, width = x.shape[-2:]
    factor = float(_Draw(1, generator).uniform(0.2, 0.8))
    size = (max(round(factor * height), 4), max(round(factor * width), 4))
    small = F.interpolate(x, size, mode='bilinear', antialias=True)
    return F.interpolate(small, (height, width), mode='bilinear')


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    draw = _Draw(len(x), generator)
    sigma = 0.08 * draw.uniform(0, 1).square()[:, None, None, None]
    grain = torch.randn(x.shape, generator=generator, device=x.device)
    grey = draw.happens(0.4)[:, None, None, None]
    return x + sigma * torch.where(grey, grain[:, :1], grain)


def _jpeg(x: Tensor, generator: torch.Generator) -> Tensor:
    """Coefficients of 8 x 8 cosine blocks rounded, coarser for higher frequencies."""
    height, width = x.shape[-2:]
    rows, columns = height // 8 * 8, width // 8 * 8
    n = torch.arange(8, device=x.device, dtype=x.dtype)
    C = torch.cos(math.pi / 8 * (n[None] + 0.5) * n[:, None]) * 0.5
    C[0] *= math.sqrt(0.5)
    step = _Draw(len(x), generator).uniform(0.01, 0.08).view(-1, 1, 1, 1, 1, 1)
    step = step * (1 + n[:, None] + n)
    blocks = x[..., :rows, :columns].unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8))
    blocks = blocks.transpose(-2, -3)  # (B, 3, H / 8, W / 8, 8, 8)
    coded = (C @ blocks @ C.T / step).round() * step
    decoded = (C.T @ coded @ C).transpose(-2, -3).flatten(-2).flatten(-3, -2)
    x = x.clone()
    x[..., :rows, :columns] = decoded
    return x
