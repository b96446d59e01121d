# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Crops that differ a little from those that a follower asks for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.crops import Crops
from face_pose_ros.geometry.rotations import exp

# A jittered crop differs from the one that the keypoints ask for by at most so much.
_JITTER_SCALE = math.log(1.08)
_JITTER_ROLL = math.radians(10)
_JITTER_SHIFT = 0.04  # of the crop's side
# Inverse powers of the root of x^5 = x + 1: multiples of them fill the unit cube evenly (Roberts
# 2018, "The unreasonable effectiveness of quasirandom sequences").
_EVEN_STEPS = 1.1673039782614187 ** -np.arange(1.0, 5.0)


def jittered(crops: Crops, jitters: int) -> tuple[Crops, NDArray[np.bool_]]:
    """Crops scaled, rolled and shifted a little, every second one seen in a mirror.

    The draws are the same in every call. A crop and the next one differ from the original by
    opposite amounts, so that no side is preferred.

    Args:
        crops: N crops.
        jitters: J, how many to make of each.

    Returns:
        The N * J crops, those of a face in a row, and which of the J are mirrored (J,).
    """
    half = 2 * (np.arange(1, (jitters + 3) // 2)[:, None] * _EVEN_STEPS % 1) - 1
    draws = np.stack([half, -half], 1).reshape(-1, 4)[:jitters]
    draws = np.tile(draws, (len(crops), 1))
    crops = crops[np.repeat(np.arange(len(crops)), jitters)]
    focal_px = crops.focal_px * np.exp(_JITTER_SCALE * draws[:, 0])
    # Turning the crop's camera by this angle moves its picture by the shift.
    angle = np.arctan(_JITTER_SHIFT * crops.size_px * draws[:, 1:3] / focal_px[:, None])
    none = np.zeros_like(focal_px)
    R = crops.R_cam_crop @ exp(np.stack([-angle[:, 1], angle[:, 0], none], -1))
    R = R @ exp(np.stack([none, none, _JITTER_ROLL * draws[:, 3]], -1))
    is_mirrored = np.arange(jitters) % 2 == 1
    # In a mirror the x axis points the other way.
    R[np.tile(is_mirrored, len(R) // max(jitters, 1)), :, 0] *= -1
    return replace(crops, R_cam_crop=R, focal_px=focal_px), is_mirrored
