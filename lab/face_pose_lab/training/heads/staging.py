# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pose of people, light and lens of an image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.training.heads.mesh import Floats


@dataclass(frozen=True)
class Lens:
    """A camera: pinhole with Brown-Conrady distortion."""

    K: NDArray[np.float64]  # (3, 3) px
    width: int
    height: int
    dist: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)  # k1 k2 p1 p2 k3
    range_max: float = 1e3  # |xy_norm| up to which the distortion means something


@dataclass(frozen=True)
class Light:
    """Light of an image; radiances are linear RGB."""

    harmonics: Floats  # (9, 3) of the irradiance over pi, in the environment's frame
    R_env_cam: NDArray[np.float64]  # (3, 3)
    lamp: NDArray[np.float64]  # (3,) unit, towards the directional light, camera frame
    lamp_colour: NDArray[np.float64]  # (3,)
    shadows: bool
    exposure: float
    environment: str  # texture that the background shows: a panorama, or a flat picture
    background_exposure: float
    is_flat: bool
    blur: float  # mip level of the background


@dataclass(frozen=True)
class Pose:
    """Pose of a person."""

    T_cam_head: NDArray[np.float64]  # (4, 4) m
    torso: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    # (3,) rotation vector of the torso against the head [rad], head frame
