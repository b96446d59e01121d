# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random people, faces they make, cameras, and heads in front of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.synthetic.ict_facekit import (
    EXPRESSIONS,
    FACE_VERTICES,
    IDENTITY_MODES,
    IctFaceKit,
)
from face_pose_lab.synthetic.scene import Head
from face_pose_lab.torch_geometry.camera import Camera

Array = NDArray[np.float64]

# R_cam_head of an upright head that faces the camera.
R_FACING: Array = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
_IDENTITY_LIMIT = 2.5  # standard deviations: beyond it the linear model bends faces
_EXPRESSIVE = 0.7  # share of the faces that are not neutral
_MARGIN_PX = 4  # between the face and the image's border
_TRIES = 200


@dataclass(frozen=True)
class HeadRange:
    """Limits of random heads; uniform within them, distances in their logarithm."""

    distance_m: tuple[float, float] = (0.5, 3.0)
    yaw_deg: float = 60.0  # largest, to either side, seen along the ray to the head
    pitch_deg: float = 30.0
    roll_deg: float = 30.0
    width: int = 1280  # px
    height: int = 720  # px


def random_head(facekit: IctFaceKit, limits: HeadRange, rng: np.random.Generator) -> Head:
    """A person whose face lies within the image of a random camera.

    Raises:
        RuntimeError: The face of no try fits into the image: it is too near for its size.
    """
    identity = rng.normal(size=IDENTITY_MODES)
    while (outside := np.abs(identity) > _IDENTITY_LIMIT).any():
        identity[outside] = rng.normal(size=outside.sum())
    expression = random_expression(facekit.expression_names, rng)
    face = facekit.vertices(identity[None], expression[None])[0, :FACE_VERTICES]
    for _ in range(_TRIES):
        camera = random_camera(limits.width, limits.height, rng)
        T_cam_head = _random_pose(camera, limits, rng)
        head = Head(identity, expression, T_cam_head, camera)
        if _within(face_bounds(face, head), camera):
            return head
    raise RuntimeError(
        f'no face fits into {limits.width} x {limits.height} px at {limits.distance_m} m'
    )


def random_expression(names: tuple[str, ...], rng: np.random.Generator) -> Array:
    """Mild expression (57,): a few units, mostly alike on both sides, blinks, turned eyes."""
    weights = dict.fromkeys(names, 0.0)
    if rng.uniform() < _EXPRESSIVE:
        units = sorted({n.removesuffix('_L').removesuffix('_R') for n in names})
        units = [u for u in units if not u.startswith(('eyeLook', 'PupilDilate', 'jaw'))]
        for unit in rng.choice(units, rng.integers(1, 5), replace=False):
            amount = 0.5 * rng.beta(1.5, 2.0)
            for side in ('', '_L', '_R'):
                if unit + side in weights:
                    weights[unit + side] = amount * rng.uniform(0.8, 1.2)
        if rng.uniform() < 0.4:
            weights['jawOpen'] = 0.4 * rng.beta(1.2, 2.5)
    sideways, up = 0.5 * rng.normal(0, 0.5, 2).clip(-1, 1)
    # The left eye turns out where the right one turns in.
    left, right = ('Out', 'In') if sideways > 0 else ('In', 'Out')
    weights[f'eyeLook{left}_L'] = weights[f'eyeLook{right}_R'] = abs(sideways)
    for side in 'LR':
        weights[f'eyeLook{"Up" if up > 0 else "Down"}_{side}'] = abs(up)
    assert len(weights) == EXPRESSIONS
    return np.array(list(weights.values()))


def random_camera(width: int, height: int, rng: np.random.Generator) -> Camera:
    """A robot's camera: 50 to 80 deg wide, or a fisheye of about 100 deg; the lens off centre."""
    model = rng.choice(['none', 'plumb_bob', 'rational_polynomial', 'equidistant'])
    f = width * (rng.uniform(0.4, 0.6) if model == 'equidistant' else rng.uniform(0.6, 1.05))
    centre = 0.5 * np.array([width - 1, height - 1]) + rng.uniform(-0.03, 0.03, 2) * width
    fx, fy = f * np.exp(0.01 * rng.normal(size=2))
    K = [fx, 0, centre[0], 0, fy, centre[1], 0, 0, 1]
    dist = {
        'none': (0.0, 0.0, 0.0, 0.0, 0.0),
        'plumb_bob': (-0.28, 0.09, 0.0011, -0.0007, -0.012),
        'rational_polynomial': (0.41, 0.08, 0.0008, -0.0005, 0.011, 0.73, 0.19, 0.014),
        'equidistant': (-0.012, 0.021, -0.013, 0.0021),
    }[model]
    name = 'plumb_bob' if model == 'none' else str(model)
    return Camera.from_K(K, width, height, tuple(rng.uniform(0.3, 1.1) * np.array(dist)), name)


def _random_pose(camera: Camera, limits: HeadRange, rng: np.random.Generator) -> Array:
    uv = rng.uniform((0, 0), (camera.width - 1, camera.height - 1))
    ray = camera.unproject(torch.from_numpy(uv)[None]).rays[0].numpy()
    angles = rng.uniform(-1, 1, 3) * (limits.roll_deg, limits.yaw_deg, limits.pitch_deg)
    T = np.eye(4)
    T[:3, :3] = look_along(ray) @ attitude(*angles)
    T[:3, 3] = ray * math.exp(rng.uniform(*np.log(limits.distance_m)))
    return T


def look_along(ray: Array) -> Array:
    """Axes (3, 3) of a level camera, z along the ray (3,)."""
    z = ray / np.linalg.norm(ray)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def attitude(roll_deg: float, yaw_deg: float, pitch_deg: float) -> Array:
    """R_view_head (3, 3) of a head as seen along the ray to it.

    A head that faces the camera upright turns by yaw about its own vertical axis, then leans by
    pitch towards the camera or away from it, whichever way it is turned, then the picture rolls.
    With pitch before yaw no head in profile would ever lean towards the camera.
    """
    turns = Rotation.from_euler('ZXY', [roll_deg, pitch_deg, yaw_deg], degrees=True)
    return np.asarray(turns.as_matrix() @ R_FACING)


def view_angles_deg(T_cam_head: Array) -> Array:
    """Roll, yaw, pitch (3,) of `attitude` [deg]; |pitch| to 90, the others to 180."""
    R = look_along(T_cam_head[:3, 3]).T @ T_cam_head[:3, :3] @ R_FACING.T
    roll, pitch, yaw = Rotation.from_matrix(R).as_euler('ZXY', degrees=True)
    return np.array([roll, yaw, pitch])


def face_bounds(face_xyz_head: NDArray[np.floating], head: Head) -> Array | None:
    """Box (4,) xyxy [px] of points (P, 3) [m] of the head; None if the lens misses any of them."""
    T = head.T_cam_head
    xyz_cam = torch.from_numpy(face_xyz_head @ T[:3, :3].T + T[:3, 3])
    uv, valid, _ = head.camera.project(xyz_cam)
    return torch.cat([uv.amin(0), uv.amax(0)]).numpy() if valid.all() else None


def _within(box_xyxy: Array | None, camera: Camera) -> bool:
    if box_xyxy is None:
        return False
    limit = np.array([camera.width, camera.height]) - 1 - _MARGIN_PX
    return bool((box_xyxy[:2] >= _MARGIN_PX).all() and (box_xyxy[2:] <= limit).all())
