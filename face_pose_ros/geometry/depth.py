# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images: per pixel the distance of the surface along the optical axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.geometry.camera import Camera

Array = NDArray[np.float64]

_ROUNDING = 1e-4  # tolerance for a rotation matrix given with few digits


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
        # Compiled code takes contiguous arrays only.
        kept = np.ascontiguousarray(z, np.uint16 if z.dtype == np.uint16 else np.float32)
        object.__setattr__(self, 'z', kept)
        if self.T_cam_depth is not None:
            T = np.array(self.T_cam_depth, dtype=np.float64)
            if not (T.shape == (4, 4) and np.isfinite(T).all() and _is_rigid(T)):
                raise ValueError(
                    f'T_cam_depth must be a rigid transform (4, 4) in m, got {T.tolist()}'
                )
            object.__setattr__(self, 'T_cam_depth', T)

    @property
    def view(self) -> _core.DepthView:
        """The image as compiled code takes it."""
        T = np.eye(4) if self.T_cam_depth is None else self.T_cam_depth
        R_depth_cam = np.ascontiguousarray(T[:3, :3].T)
        return _core.DepthView(self.z, self.camera.lens, R_depth_cam, -R_depth_cam @ T[:3, 3])

    @property
    def share_measured(self) -> float:
        """Share of pixels with a depth, sampled at every eighth row and column."""
        z = self.z[::8, ::8]
        return float(((z > 0) & np.isfinite(z)).mean())


def _is_rigid(T: Array) -> bool:
    R = T[:3, :3]
    is_rotation = np.abs(R @ R.T - np.eye(3)).max() < _ROUNDING and np.linalg.det(R) > 0
    return bool(is_rotation and (T[3] == [0, 0, 0, 1]).all())
