"""Heatmaps -> keypoints, compiled for CPUs: the same answers as `heatmaps` gives in torch."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from face_pose_ros.keypoints.heatmaps import (
    MAX_LOG_HEIGHT,
    MIN_HEIGHT,
    MIN_SIGMA,
    RADIUS,
    TARGET_SIGMA,
    UNKNOWN_SIGMA,
)

Array = NDArray[np.float64]

_compiled = njit(cache=True, nogil=True, error_model='numpy')
_UNKNOWNS = 6  # of a paraboloid


def decode(heatmaps: NDArray[np.float32], stride: int) -> tuple[Array, Array, Array]:
    """See `heatmaps.decode_heatmaps`.

    Args:
        heatmaps: (N, K, H, W), in one piece.
        stride: Crop pixels per cell.

    Returns:
        (N, K, 2) px of the crop, (N, K, 2, 2) px^2 and (N, K) in [0, 1].
    """
    shape = heatmaps.shape[:2]
    uv, cov_uv, confidence = np.empty((*shape, 2)), np.empty((*shape, 2, 2)), np.empty(shape)
    _decode(heatmaps, stride, uv, cov_uv, confidence)
    return uv, cov_uv, confidence


@_compiled
def _decode(
    heatmaps: NDArray[np.float32], stride: int, uv: Array, cov_uv: Array, confidence: Array
) -> None:
    count, keypoints, _, width = heatmaps.shape
    for n in range(count):
        for k in range(keypoints):
            heatmap = heatmaps[n, k]
            top = heatmap.argmax()
            v0, u0 = top // width, top % width
            c0, gx, gy, hxx, hxy, hyy = _paraboloid(heatmap, u0, v0)
            determinant = hxx * hyy - hxy * hxy
            peak = max(heatmap[v0, u0], MIN_HEIGHT)
            sound = hxx < 0 and determinant > 1e-6 and peak > MIN_HEIGHT
            x = y = 0.0
            if sound:
                # The top of c0 + g x + 1/2 x H x is at -H^-1 g.
                x = (hxy * gy - hyy * gx) / determinant
                y = (hxy * gx - hxx * gy) / determinant
                sound = max(abs(x), abs(y)) <= RADIUS + 0.5
            if sound:
                peak = math.exp(min(c0 + 0.5 * (gx * x + gy * y), MAX_LOG_HEIGHT))
            else:
                x = y = 0.0
            uv[n, k, 0] = (u0 + x + 0.5) * stride - 0.5
            uv[n, k, 1] = (v0 + y + 0.5) * stride - 0.5
            confidence[n, k] = min(max(peak, 0.0), 1.0)
            _covariance(-hxx, -hxy, -hyy, peak, sound, stride, cov_uv[n, k])


@_compiled
def _paraboloid(heatmap: NDArray[np.float32], u0: int, v0: int) -> Array:
    """Height, slopes and curvatures (6,) of the heatmap's logarithm at a cell."""
    height, width = heatmap.shape
    A, b, basis = np.zeros((_UNKNOWNS, _UNKNOWNS)), np.zeros(_UNKNOWNS), np.empty(_UNKNOWNS)
    largest = max(heatmap[v0, u0], 1e-6)
    for v in range(max(v0 - RADIUS, 0), min(v0 + RADIUS + 1, height)):
        for u in range(max(u0 - RADIUS, 0), min(u0 + RADIUS + 1, width)):
            value = heatmap[v, u]
            if not value > MIN_HEIGHT:  # NaN too
                continue
            x, y = float(u - u0), float(v - v0)
            basis[:] = (1.0, x, y, 0.5 * x * x, x * y, 0.5 * y * y)
            weight, log_value = (value / largest) ** 2, math.log(value)
            for i in range(_UNKNOWNS):
                b[i] += weight * basis[i] * log_value
                for j in range(_UNKNOWNS):
                    A[i, j] += weight * basis[i] * basis[j]
    for i in range(_UNKNOWNS):
        A[i, i] += 1e-9  # fewer than six cells with weight leave the paraboloid open
    return np.linalg.solve(A, b)


@_compiled
def _covariance(
    a: float, b: float, d: float, peak: float, sound: bool, stride: int, cov_uv: Array
) -> None:
    """Of a fit with the precision ((a, b), (b, d)) [1 / cells^2], into cov_uv (2, 2) [px^2]."""
    area = TARGET_SIGMA**2 / min(max(peak, 1e-3), 1.0)
    if sound:
        root = math.sqrt(max(a * d - b * b, 1e-12))
        xx, xy, yy = area * d / root, -area * b / root, area * a / root
    else:
        area = max(area, UNKNOWN_SIGMA**2)
        xx, xy, yy = area, 0.0, area
    xx, yy = xx - TARGET_SIGMA**2, yy - TARGET_SIGMA**2
    # Eigenvalues below the floor are raised to it.
    mean, half = 0.5 * (xx + yy), 0.5 * (xx - yy)
    radius = math.sqrt(half * half + xy * xy + 1e-20)
    low, high = max(mean - radius, MIN_SIGMA**2), max(mean + radius, MIN_SIGMA**2)
    middle, scale = 0.5 * (low + high), 0.5 * (high - low) / radius
    cov_uv[0, 0] = stride**2 * (middle + scale * (xx - mean))
    cov_uv[0, 1] = cov_uv[1, 0] = stride**2 * scale * xy
    cov_uv[1, 1] = stride**2 * (middle + scale * (yy - mean))
