# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled heads of a picture, and what an affine map of the picture makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.faces.box_camera import box_rotation
from face_pose_ros.faces.head_cells import HEAD_CENTRE, HEAD_SIZE_M

Array = NDArray[np.float64]

# Angle between the face and the ray to it: below the first a head is to be found, beyond the
# second it shows no face and counts as background; between them it counts as neither.
FOUND_TO_DEG, ABSENT_FROM_DEG = 115.0, 150.0
_MIRRORED_CAMERA = np.diag([-1.0, 1.0, 1.0])
_MIRRORED_HEAD = np.diag([1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Heads:
    """J heads of one picture."""

    uv: Array  # (J, 2) px, centres
    log_size: Array  # (J,) logarithm of the apparent size [px]
    R_box_head: Array  # (J, 3, 3), relative to the rays through the centres
    wanted: NDArray[np.bool_]  # (J,) to be found; others count as neither head nor background
    posed: NDArray[np.bool_]  # (J,) whether rotation and size are labels; if not, approximate

    def __len__(self) -> int:
        return len(self.log_size)

    def __getitem__(self, rows: NDArray | slice) -> Heads:
        return Heads(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def none(cls) -> Heads:
        """No heads."""
        return cls(
            np.zeros((0, 2)),
            np.zeros(0),
            np.zeros((0, 3, 3)),
            np.zeros(0, bool),
            np.zeros(0, bool),
        )

    def join(self, other: Heads) -> Heads:
        """The heads of both."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Heads(*(np.concatenate(pair) for pair in pairs))

    @property
    def turn_deg(self) -> Array:
        """(J,) angle between the face's direction and the direction to the camera."""
        return np.degrees(np.arccos(np.clip(-self.R_box_head[:, 2, 0], -1, 1)))

    def moved(self, move: Similarity) -> Heads:
        """The heads of the moved picture."""
        sign = -1.0 if move.mirror else 1.0
        R = self.R_box_head
        if move.mirror:
            R = _MIRRORED_CAMERA @ R @ _MIRRORED_HEAD
        c, s = np.cos(move.angle), np.sin(move.angle)
        about_ray = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        uv = self.uv * (sign, 1.0)
        return Heads(
            move.scale * uv @ about_ray[:2, :2].T + move.offset,
            self.log_size + np.log(move.scale),
            about_ray @ R,
            self.wanted,
            self.posed,
        )


@dataclass(frozen=True)
class Similarity:
    """uv_new = scale * rotation(angle) @ mirrored(uv) + offset."""

    scale: float
    angle: float  # rad, from x to y
    mirror: bool
    offset: Array  # (2,) px

    @classmethod
    def placing(
        cls, uv: Array, at: Array, scale: float, angle: float = 0.0, mirror: bool = False
    ) -> Similarity:
        """The map that brings a point uv (2,) to another one."""
        turned = cls(scale, angle, mirror, np.zeros(2)).matrix[:, :2] @ uv
        return cls(scale, angle, mirror, at - turned)

    @property
    def matrix(self) -> Array:
        """(2, 3) for cv2.warpAffine, from old to new pixels."""
        c, s = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        sign = -1.0 if self.mirror else 1.0
        return np.array([[sign * c, -s, self.offset[0]], [sign * s, c, self.offset[1]]])


def heads_of_poses(
    T_cam_head: Array, focal_px: Array, middle_uv: Array, hidden: NDArray[np.bool_]
) -> Heads:
    """One head in each of N pictures of pinhole cameras.

    Args:
        T_cam_head: (N, 4, 4).
        focal_px: (N,).
        middle_uv: (N, 2) or (2,) px, principal points.
        hidden: (N,) covered too much to be found for sure.
    """
    R = T_cam_head[:, :3, :3]
    centre = R @ np.array(HEAD_CENTRE) + T_cam_head[:, :3, 3]
    distance = np.linalg.norm(centre, axis=-1)
    rays = centre / distance[:, None]
    uv = middle_uv + focal_px[:, None] * rays[:, :2] / rays[:, 2:]
    # A pinhole's steradian at a ray: f^2 / z^3 px^2.
    size = focal_px * rays[:, 2] ** -1.5 * HEAD_SIZE_M / distance
    heads = Heads(
        uv,
        np.log(size),
        box_rotation(rays).swapaxes(1, 2) @ R,
        ~hidden,
        np.ones(len(R), bool),
    )
    return with_turn(heads)


def with_turn(heads: Heads) -> Heads:
    """The heads, none of which is to be found that shows too little of its face."""
    return replace(heads, wanted=heads.wanted & (heads.turn_deg <= FOUND_TO_DEG))
