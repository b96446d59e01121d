# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images: per pixel the distance of the surface along the optical axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.lens import Lens

Array = NDArray[np.float64]

_NO_MM, _NO_M = np.empty((0, 0), np.uint16), np.empty((0, 0), np.float32)
_UNTURNED, _UNMOVED = np.eye(3), np.zeros(3)
_ROUNDING = 1e-4  # tolerance for a rotation matrix given with few digits


class DepthView(NamedTuple):
    """A depth image as compiled code takes it; one of the two pixel arrays is empty."""

    z_mm: NDArray[np.uint16]  # (H, W), or (0, 0)
    z_m: NDArray[np.float32]  # (H, W), or (0, 0)
    lens: Lens  # of the depth camera
    R_depth_cam: Array  # (3, 3)
    t_depth_cam: Array  # (3,) m


@dataclass(frozen=True, eq=False)
class DepthImage:
    """Depth along the optical axis (z, not the range along the ray), with its camera.

    >>> camera = Camera.from_fov(640, 480, 70)
    >>> DepthImage(np.full((480, 640), 1250, np.uint16), camera).share_measured
    1.0
    """

    z: NDArray  # (H, W) uint16 in mm, or float in m; 0, negative, NaN and infinity: not measured
    camera: Camera  # of the depth image; the colour camera if both are aligned
    T_cam_depth: Array | None = None  # (4, 4) m, depth camera in the colour camera; None: identity

    def __post_init__(self) -> None:
        """Check types and sizes.

        Raises:
            ValueError: z has the wrong type or shape, or T_cam_depth is not a rigid transform.
        """
        z = np.asarray(self.z)
        if z.ndim != 2 or not (z.dtype == np.uint16 or z.dtype.kind == 'f'):
            raise ValueError(
                f'expected an (H, W) depth image, uint16 in mm or float in m, got {z.shape} '
                f'{z.dtype}'
            )
        if z.shape != (self.camera.height, self.camera.width):
            raise ValueError(
                f'the depth image is {z.shape[1]} x {z.shape[0]} but its camera is calibrated for '
                f'{self.camera.width} x {self.camera.height}'
            )
        # Compiled code takes contiguous, writable arrays only.
        kept = np.require(z, np.uint16 if z.dtype == np.uint16 else np.float32, ['C', 'W'])
        object.__setattr__(self, 'z', kept)
        if self.T_cam_depth is not None:
            T = np.array(self.T_cam_depth, dtype=np.float64)
            if not (T.shape == (4, 4) and np.isfinite(T).all() and _is_rigid(T)):
                raise ValueError(
                    f'T_cam_depth must be a rigid transform (4, 4) in m, got {T.tolist()}'
                )
            object.__setattr__(self, 'T_cam_depth', T)

    @cached_property
    def view(self) -> DepthView:
        """The image as compiled code takes it."""
        in_mm = self.z.dtype == np.uint16
        T = np.eye(4) if self.T_cam_depth is None else self.T_cam_depth
        return DepthView(
            self.z if in_mm else np.empty((0, 0), np.uint16),
            np.empty((0, 0), np.float32) if in_mm else self.z,
            self.camera.numba_lens,
            np.ascontiguousarray(T[:3, :3].T),
            -T[:3, :3].T @ T[:3, 3],
        )

    @property
    def share_measured(self) -> float:
        """Share of pixels with a depth, sampled at every eighth row and column."""
        z = self.z[::8, ::8]
        return float(((z > 0) & np.isfinite(z)).mean())


def _is_rigid(T: Array) -> bool:
    R = T[:3, :3]
    is_rotation = np.abs(R @ R.T - np.eye(3)).max() < _ROUNDING and np.linalg.det(R) > 0
    return bool(is_rotation and (T[3] == [0, 0, 0, 1]).all())


def no_depth(camera: Camera) -> DepthView:
    """An empty view, for images without depth."""
    return DepthView(_NO_MM, _NO_M, camera.numba_lens, _UNTURNED, _UNMOVED)
