# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The semantic keypoints of a head: face, jaw, ears and skull; some are visible in every view.

A keypoint is fixed to the skin. There are three kinds of definition:

- FaceMeshPoint: a point of Face Mesh, which is also a vertex of the packaged face model.
- EarPoint: a landmark of the outer ear, after Farkas 1994, "Anthropometry of the Head and Face".
- SkullPoint: the intersection of a ray from SKULL_CENTRE with the hairless mean head of a mesh
  family.

"right" and "left" are the person's own.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# [m], head frame of the mean head: between the ears and slightly above them.
SKULL_CENTRE = (-0.095, 0.0, 0.015)


class Ear(enum.Enum):
    """Landmarks of the outer ear."""

    TRAGION = 'notch above the tragus'
    SUPERAURALE = 'highest point of the free margin'
    POSTAURALE = 'rearmost point of the free margin'
    SUBAURALE = 'lowest point of the lobe'


@dataclass(frozen=True)
class FaceMeshPoint:
    """A point of Face Mesh."""

    index: int  # of the 468


@dataclass(frozen=True)
class EarPoint:
    """A landmark of one ear."""

    landmark: Ear
    left: bool


@dataclass(frozen=True)
class SkullPoint:
    """A direction from SKULL_CENTRE."""

    azimuth_deg: float  # from the face's x, positive to the person's left
    elevation_deg: float  # positive up

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit vector (3,) in the head frame."""
        azimuth, elevation = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        level = math.cos(elevation)
        return np.array(
            [level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation)]
        )


Definition = FaceMeshPoint | EarPoint | SkullPoint

# Points of Face Mesh on the midline, and pairs (right, left).
_MIDLINE = {
    'forehead': 10,
    'glabella': 9,
    'nasal_root': 6,
    'nose_bridge': 195,
    'nose_tip': 4,
    'subnasale': 2,
    'upper_lip': 0,
    'upper_lip_inner': 13,
    'lower_lip_inner': 14,
    'lower_lip': 17,
    'chin': 199,
    'menton': 152,
}
_PAIRS = {
    'forehead_side': (67, 297),
    'temple': (54, 284),
    'brow_inner': (107, 336),
    'brow_middle': (105, 334),
    'brow_outer': (70, 300),
    'eye_outer': (33, 263),
    'eye_inner': (133, 362),
    'eye_upper': (159, 386),
    'eye_lower': (145, 374),
    'under_eye': (117, 346),
    'cheek': (50, 280),
    'nasolabial': (205, 425),
    'nose_wing': (129, 358),
    'mouth_corner': (61, 291),
    'upper_lip_side': (40, 270),
    'lower_lip_side': (91, 321),
    'zygion': (127, 356),
    'ear_front': (93, 323),
    'jaw_upper': (132, 361),
    'jaw_angle': (172, 397),
    'jaw_lower': (150, 379),
    'jaw_front': (176, 400),
}
# Rings of skull points: name, elevation [deg], azimuths of one side [deg].
_SKULL_RINGS = (
    ('nape', -22, (140, 180)),
    ('occiput', 5, (120, 150, 180)),
    ('parietal', 35, (65, 105, 145, 180)),
    ('crown', 63, (0, 60, 120, 180)),
)


def _definitions() -> dict[str, Definition]:
    points: dict[str, Definition] = {n: FaceMeshPoint(i) for n, i in _MIDLINE.items()}
    for name, partners in _PAIRS.items():
        for side, index in zip(('right', 'left'), partners, strict=True):
            points[f'{name}_{side}'] = FaceMeshPoint(index)
    for landmark in Ear:
        for side in ('right', 'left'):
            points[f'{landmark.name.lower()}_{side}'] = EarPoint(landmark, side == 'left')
    for ring, elevation, azimuths in _SKULL_RINGS:
        for azimuth in azimuths:
            if azimuth in (0, 180):
                points[f'{ring}_{azimuth}'] = SkullPoint(azimuth, elevation)
                continue
            points[f'{ring}_{azimuth}_right'] = SkullPoint(-azimuth, elevation)
            points[f'{ring}_{azimuth}_left'] = SkullPoint(azimuth, elevation)
    points['vertex'] = SkullPoint(0, 90)
    return points


def _partner(name: str) -> str:
    if name.endswith('_right'):
        return name.removesuffix('_right') + '_left'
    return name.removesuffix('_left') + '_right' if name.endswith('_left') else name


DEFINITIONS = _definitions()
NAMES = tuple(DEFINITIONS)
# Index of each keypoint's mirror partner.
MIRROR = np.array([NAMES.index(_partner(name)) for name in NAMES])
# Index among Face Mesh's 468 points; -1 for ears and skull.
FACE_MESH_INDEX = np.array(
    [d.index if isinstance(d, FaceMeshPoint) else -1 for d in DEFINITIONS.values()]
)
IS_FACE = FACE_MESH_INDEX >= 0
