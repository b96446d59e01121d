# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth image of an active stereo camera: noise, steps, holes, flying pixels.

Matching finds the disparity d = f B / z with an error that neighbours share, in steps; so the
error of z grows with its square. What only one of the two imagers sees, left of a nearer surface,
has no depth; at an edge a pixel may lie anywhere between the two surfaces; and some patches do
not match at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Depth = NDArray[np.float32]


@dataclass(frozen=True)
class ActiveStereo:
    """The figures of a camera like Intel's D435 at 848 x 480: 425 px, 50 mm."""

    focal_baseline_px_m: float = 21.2
    noise_px: float = 0.08  # of the disparity
    correlation_px: float = 2.0  # over which neighbours err alike
    bias_px: float = 0.03  # of the disparity, the same in all pixels of a camera
    step_px: float = 1 / 32
    holes: float = 0.06  # share of the pixels
    flying: float = 0.5  # share of the pixels at an edge
    background_m: tuple[float, float] = (0.4, 3.0)  # behind the head

    def measure(self, z: Depth, rng: np.random.Generator) -> NDArray[np.uint16]:
        """Depth image (H, W) in mm of true depth z (H, W) [m], whose zeros are background."""
        head = z > 0
        far = float(z[head].max()) + rng.uniform(*self.background_m)
        true = np.where(head, z, np.float32(far))
        disparity = self.focal_baseline_px_m / true
        disparity += self.bias_px * rng.normal()
        disparity += self.noise_px * self._smooth(z.shape, self.correlation_px, rng)
        disparity = np.round(disparity / self.step_px) * self.step_px
        measured = self.focal_baseline_px_m / np.maximum(disparity, self.step_px)
        edge = self._edges(true)
        flying = edge & (rng.uniform(size=z.shape) < self.flying)
        near = cv2.erode(true, np.ones((3, 3)))
        behind = cv2.dilate(true, np.ones((3, 3)))
        mixed = near + rng.uniform(size=z.shape) * (behind - near)
        measured = np.where(flying, mixed, measured)
        measured[self._shadow(true)] = 0
        blobs = self._smooth(z.shape, 4.0, rng)
        measured[blobs > np.quantile(blobs, 1 - self.holes)] = 0
        return np.round(1000 * measured).clip(0, 65535).astype(np.uint16)

    @staticmethod
    def _smooth(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator) -> Depth:
        """Normal noise that is alike over so many pixels, of unit variance."""
        noise = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), sigma_px)
        return np.asarray(noise / noise.std(), dtype=np.float32)

    @staticmethod
    def _edges(z: Depth) -> NDArray[np.bool_]:
        kernel = np.ones((3, 3))
        return np.asarray(cv2.dilate(z, kernel) - cv2.erode(z, kernel) > 0.05 * z)

    def _shadow(self, z: Depth) -> NDArray[np.bool_]:
        """Pixels that only the left imager sees, next to nearer surfaces."""
        columns = np.arange(z.shape[1]) - self.focal_baseline_px_m / z  # in the right imager
        nearest = np.minimum.accumulate(columns[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(columns > nearest + 0.5)


def cover_face(
    z_mm: NDArray[np.uint16],
    face_xyxy: NDArray[np.float64],
    skin: NDArray[np.bool_],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """The same depth image with a share of a face's pixels on something else.

    A disc on the border of the face is nearer, as a hand or hair is, or farther, as background
    seen where the face was thought to be.

    Args:
        z_mm: (H, W).
        face_xyxy: (4,) px.
        skin: (H, W) pixels of the face.
        share: Of these.
        rng: Where and what.
    """
    rows, columns = np.nonzero(skin)
    angle = rng.uniform(0, 2 * np.pi)
    middle = 0.5 * (face_xyxy[:2] + face_xyxy[2:])
    centre = middle + 0.5 * (face_xyxy[2:] - face_xyxy[:2]) * [np.cos(angle), np.sin(angle)]
    distance = np.hypot(columns - centre[0], rows - centre[1])
    covered = distance <= np.quantile(distance, share)
    result = z_mm.copy()
    there = result[rows[covered], columns[covered]].astype(float)
    nearer = rng.uniform() < 0.6
    moved = there - rng.uniform(40, 150) if nearer else there + rng.uniform(150, 1500)
    result[rows[covered], columns[covered]] = np.where(there > 0, moved, 0).clip(0, 65535)
    return result
