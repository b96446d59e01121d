# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heatmaps -> keypoints with a 2x2 covariance, and the heatmaps of known keypoints.

A heatmap's cell (0, 0) covers the crop's pixels 0 to stride - 1 in both directions, so its centre
lies at (stride - 1) / 2 and `uv_crop = (uv_cell + 0.5) * stride - 0.5`.

What a trained network predicts. The target of a keypoint is a Gaussian g of TARGET_SIGMA cells
around its place. The least mean squared error is reached by the mean of g over all places that the
picture leaves possible: their distribution, convolved with g. So a heatmap is wider than g and its
peak lower than 1, and both tell how uncertain the place is: a normal distribution of covariance P
gives a Gaussian of covariance P + sigma^2 I whose peak is sigma^2 / sqrt(det(P + sigma^2 I)).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TARGET_SIGMA = 1.0  # cells (Pavlakos et al. 2017)

RADIUS = 2  # cells around the highest one that are fitted
MIN_HEIGHT = 1e-4  # a lower cell, or a negative one, is as good as empty
MIN_SIGMA = 0.1  # cells: no keypoint is claimed to be better known than that
UNKNOWN_SIGMA = 3.0  # cells: of a heatmap that has no peak
MAX_LOG_HEIGHT = 0.5  # beyond the border the fit extrapolates


class CropKeypoints(NamedTuple):
    """Keypoints in crops, read from (..., H, W) heatmaps or regressed."""

    uv: Tensor  # (..., 2) px of the crop, pixel (0, 0) is the centre of its top-left pixel
    cov_uv: Tensor  # (..., 2, 2) px^2
    confidence: Tensor  # (...) height of the heatmap's peak, in [0, 1]


def to_cells(uv: Tensor, stride: int) -> Tensor:
    """Crop pixels (..., 2) in heatmap cells."""
    return (uv + 0.5) / stride - 0.5


def to_pixels(uv_cells: Tensor, stride: int) -> Tensor:
    """Heatmap cells (..., 2) in crop pixels."""
    return (uv_cells + 0.5) * stride - 0.5


def render_heatmaps(uv: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Target heatmaps (..., height, width) of keypoints uv (..., 2) px of the crop; peak 1."""
    u, v = to_cells(uv, stride).unbind(-1)
    columns = torch.arange(width, dtype=uv.dtype, device=uv.device) - u[..., None]
    rows = torch.arange(height, dtype=uv.dtype, device=uv.device) - v[..., None]
    scale = -0.5 / TARGET_SIGMA**2
    return (scale * rows.square()).exp()[..., :, None] * (scale * columns.square()).exp()[
        ..., None, :
    ]


def decode_heatmaps(heatmaps: Tensor, stride: int) -> CropKeypoints:
    """The place, covariance and confidence of each keypoint; differentiable.

    Around the highest cell a paraboloid is fitted to the logarithm of the heatmap, by least
    squares with the squared height as weight: noise of equal size on all cells changes the
    logarithm by as much as 1 / height (Guo, "A simple algorithm for fitting a Gaussian function",
    2011). Of a noise-free Gaussian it finds the centre exactly, also where the border cuts it off.
    The shape of the covariance is that of the fit; its size follows from the peak, which, unlike
    the width, also tells of a second place that the network thinks possible.

    Args:
        heatmaps: (..., H, W), H and W at least 3.
        stride: Crop pixels per cell.
    """
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.reshape(-1, height * width)
    top = flat.detach().argmax(-1)
    u0, v0 = top % width, top // width
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=flat.device)
    dv, du = (d.flatten() for d in torch.meshgrid(offsets, offsets, indexing='ij'))
    u, v = u0[:, None] + du, v0[:, None] + dv
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    cells = v.clamp(0, height - 1) * width + u.clamp(0, width - 1)
    values = flat.gather(1, cells)
    usable = inside & (values > MIN_HEIGHT)
    values = torch.where(usable, values, MIN_HEIGHT)
    centre, precision, peak, sound = _fit_paraboloid(values, usable, du, dv)
    uv = torch.stack([u0, v0], -1) + centre
    cov = _covariance(precision, peak, sound)
    shape = heatmaps.shape[:-2]
    return CropKeypoints(
        to_pixels(uv, stride).view(*shape, 2),
        (stride**2 * cov).view(*shape, 2, 2),
        peak.clamp(0, 1).view(shape),
    )


def _fit_paraboloid(
    values: Tensor, usable: Tensor, du: Tensor, dv: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre (M, 2), precision (M, 2, 2), height (M,) and success (M,) of Gaussians.

    Args:
        values: (M, C) positive heights of cells.
        usable: (M, C) the cells that count.
        du: (C,) where the cells are, from the highest one [cells].
        dv: (C,) likewise.
    """
    x, y = du.to(values), dv.to(values)
    basis = torch.stack([torch.ones_like(x), x, y, 0.5 * x * x, x * y, 0.5 * y * y], -1)  # (C, 6)
    weight = torch.where(usable, values, 0.0).square()
    weight = weight / weight.amax(-1, keepdim=True).clamp_min(1e-12)
    A = torch.einsum('mc,ci,cj->mij', weight, basis, basis)
    b = torch.einsum('mc,ci,mc->mi', weight, basis, values.log())
    # Fewer than six cells with weight leave the paraboloid open.
    ridge = 1e-9 if values.dtype == torch.float64 else 1e-6
    eye = torch.eye(6, dtype=values.dtype, device=values.device)
    c0, gx, gy, hxx, hxy, hyy = torch.linalg.solve(A + ridge * eye, b).unbind(-1)
    precision = -torch.stack([hxx, hxy, hxy, hyy], -1).unflatten(-1, (2, 2))
    determinant = hxx * hyy - hxy * hxy
    sound = (hxx < 0) & (determinant > 1e-6) & (values.amax(-1) > MIN_HEIGHT)
    safe = torch.where(sound, determinant, 1.0)
    # The top of c0 + g x + 1/2 x H x is at -H^-1 g.
    cx = torch.where(sound, (hxy * gy - hyy * gx) / safe, 0.0)
    cy = torch.where(sound, (hxy * gx - hxx * gy) / safe, 0.0)
    sound = sound & (torch.maximum(cx.abs(), cy.abs()) <= RADIUS + 0.5)
    centre = torch.where(sound[:, None], torch.stack([cx, cy], -1), 0.0)
    top = (c0 + 0.5 * (gx * cx + gy * cy)).clamp(max=MAX_LOG_HEIGHT).exp()
    # A plain maximum where there is no fit.
    return centre, precision, torch.where(sound, top, values.amax(-1)), sound


def _covariance(precision: Tensor, peak: Tensor, sound: Tensor) -> Tensor:
    """(M, 2, 2) covariances [cells^2] of the places: what is left after the target's own width."""
    a, b, d = precision[:, 0, 0], precision[:, 0, 1], precision[:, 1, 1]
    root = torch.where(sound, a * d - b * b, 1.0).clamp_min(1e-12).sqrt()
    # The inverse of a 2x2 matrix over the root of its determinant: the shape, of determinant 1.
    shape = torch.stack([d, -b, -b, a], -1).unflatten(-1, (2, 2)) / root[:, None, None]
    eye = torch.eye(2, dtype=peak.dtype, device=peak.device)
    shape = torch.where(sound[:, None, None], shape, eye)
    area = TARGET_SIGMA**2 / peak.clamp(1e-3, 1.0)
    area = torch.where(sound, area, area.clamp_min(UNKNOWN_SIGMA**2))
    wide = area[:, None, None] * shape - TARGET_SIGMA**2 * eye
    return _at_least(wide, MIN_SIGMA**2)


def _at_least(M: Tensor, floor: float) -> Tensor:
    """Symmetric (..., 2, 2) with eigenvalues below the floor raised to it."""
    mean = 0.5 * (M[..., 0, 0] + M[..., 1, 1])
    half = 0.5 * (M[..., 0, 0] - M[..., 1, 1])
    radius = (half.square() + M[..., 0, 1].square() + 1e-20).sqrt()
    low, high = (mean - radius).clamp_min(floor), (mean + radius).clamp_min(floor)
    eye = torch.eye(2, dtype=M.dtype, device=M.device)
    direction = (M - mean[..., None, None] * eye) / radius[..., None, None]
    return (
        0.5 * (low + high)[..., None, None] * eye
        + (0.5 * (high - low))[..., None, None] * direction
    )
