# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Hair lock by lock on any skin, and other shapes of modelled hair; head frame, m.

A network learns the outlines of a few modelled styles with the heads below them, and misjudges
people with other hair (lab/docs/rendering.md). Locks of any length, parting and curl, some of them
over the face, leave the head itself as all that pictures have in common. The amounts are by eye.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from face_pose_lab.training.heads.mesh import Floats, Mesh, unit, vector

Rng = np.random.Generator

LOCKS = 'locks'  # texture of locks
_AXIS = vector(-0.09, 0, 0.0)  # hair grows away from it
_POINTS = 11  # of a lock
_FRONT_M = -0.055  # roots before it hang over the forehead, if any do
_HEAD_SHARE = 0.9  # of the skin that locks lie upon
_LOCK_U = 0.16  # of the texture across a lock
_V_PER_M = 2.0


@dataclass(frozen=True)
class Style:
    """Shape of locks."""

    locks: int
    length: float  # m
    fringe: float  # m, of locks over the forehead; 0 combs them back
    width: float  # m
    volume: float  # m, over the skin
    parting: float  # m to the left of the middle
    lift: float  # share of the first direction that leaves the skin
    back: float  # how far it is combed back rather than to the sides
    weight: float  # how soon it hangs down [1/m]
    curl: float  # m, amplitude
    turns: float  # of a curl, per m
    frizz: float  # how much neighbours differ


def random_style(rng: Rng) -> Style:
    """Anything from a crop to long curls."""
    kind = rng.choice(['short', 'chin', 'long', 'round'], p=[0.35, 0.2, 0.3, 0.15])
    low, high = {
        'short': (0.015, 0.07), 'chin': (0.1, 0.2), 'long': (0.2, 0.42), 'round': (0.04, 0.14)
    }[kind]  # fmt: skip
    length = rng.uniform(low, high)
    is_round = kind == 'round'
    curly = is_round or rng.uniform() < 0.3
    fringe = min(rng.uniform(0.03, 0.16), length) if rng.uniform() < 0.45 else 0.0
    if kind in ('chin', 'long') and rng.uniform() < 0.35:
        fringe = rng.uniform(0.6, 1.0) * length  # hangs over a cheek
    return Style(
        locks=int(rng.integers(200, 520)),
        length=length,
        fringe=fringe,
        width=rng.uniform(0.008, 0.028),
        volume=rng.uniform(0.004, 0.03),
        parting=rng.normal(0, 0.03),
        lift=rng.uniform(0.6, 1.0) if is_round else rng.uniform(0.05, 0.5),
        back=rng.uniform(-0.3, 1.3),
        weight=rng.uniform(0, 5) if is_round else rng.uniform(8, 40),
        curl=rng.uniform(0.003, 0.014) if curly else rng.uniform(0, 0.003),
        turns=rng.uniform(8, 45) if curly else rng.uniform(3, 12),
        frizz=0.02 + 0.3 * rng.uniform() ** 2,
    )


def loose_style(rng: Rng) -> Style:
    """Some strands that hang out of other hair or a hat, most of them about the face."""
    return replace(
        random_style(rng),
        locks=int(rng.integers(5, 40)),
        length=rng.uniform(0.05, 0.3),
        fringe=rng.uniform(0.04, 0.2),
        width=rng.uniform(0.003, 0.014),
        volume=rng.uniform(0.005, 0.03),
        back=rng.uniform(-0.6, 0.4),
        weight=rng.uniform(8, 40),
    )


def grown(skin: Mesh, style: Style, rng: Rng) -> Mesh:
    """Locks on the scalp of a skin: ribbons that fall along the head."""
    roots = np.flatnonzero(skin.shares[:, 2] > 0.5)
    chosen = roots[rng.integers(len(roots), size=style.locks)]
    place = skin.xyz[chosen] + rng.normal(0, 0.003, (style.locks, 3))
    is_fringe = (place[:, 0] > _FRONT_M) & (style.fringe > 0)
    length = np.where(is_fringe, style.fringe, style.length)
    length = length * np.exp(rng.normal(0, 0.15, style.locks))
    side = np.sign(place[:, 1] - style.parting)[:, None]
    swept = rng.uniform(0, 2.0)  # of a fringe
    to_side, down, forward = vector(0, 1, 0), vector(0, 0, -1), vector(1, 0, 0)
    comb = side * to_side - style.back * forward + 0.3 * down
    comb = np.where(is_fringe[:, None], forward + swept * side * to_side + 0.5 * down, comb)
    outwards = unit(place - _AXIS)
    heading = unit(comb) + style.frizz * rng.normal(size=place.shape)
    heading = unit(style.lift * outwards + (1 - style.lift) * heading)

    head = skin.xyz[skin.shares[:, 0] > _HEAD_SHARE] - _AXIS
    radius = np.linalg.norm(head, axis=1)
    surface = cKDTree(head / radius[:, None])
    above = rng.uniform(0.002, 0.002 + style.volume, style.locks)
    step = (length / (_POINTS - 1))[:, None]
    line = [place]
    for i in range(1, _POINTS):
        heading = unit(heading + style.weight * step * down)
        moved = place + step * heading - _AXIS
        distance = np.linalg.norm(moved, axis=1)
        least = radius[surface.query(moved / distance[:, None])[1]] + above * min(1.0, i / 3)
        moved *= (np.maximum(distance, least) / distance)[:, None]
        heading = unit(moved + _AXIS - place)
        place = moved + _AXIS
        line.append(place)
    return _ribbons(np.stack(line, 1), length, style, rng)


def _ribbons(line: NDArray, length: NDArray, style: Style, rng: Rng) -> Mesh:
    """A mesh about lines (S, P, 3) of locks as long as length (S,) [m]."""
    along = np.linspace(0, 1, _POINTS)
    tangent = unit(np.gradient(line, axis=1))
    outwards = unit(line - _AXIS)
    across = unit(np.cross(tangent, outwards))
    phase = rng.uniform(0, 2 * np.pi, len(line))
    turn = 2 * np.pi * style.turns * along * length[:, None] + phase[:, None]
    swing = style.curl * np.minimum(4 * along, 1) * np.stack([np.cos(turn), np.sin(turn)])
    line = line + swing[0][..., None] * across + np.abs(swing[1])[..., None] * outwards
    half = 0.5 * style.width * np.exp(rng.normal(0, 0.3, len(line)))
    half = half[:, None] * (1 - 0.75 * along**3)
    xyz = line[:, :, None] + np.array([-1, 1])[:, None] * (half[..., None] * across)[:, :, None]
    normals = unit(np.cross(across, tangent))
    normals *= np.sign((normals * outwards).sum(-1, keepdims=True))
    u = rng.uniform(0, 1, len(line))[:, None, None] + np.array([0, _LOCK_U])
    v = rng.uniform(0, 1, len(line))[:, None] + _V_PER_M * along * length[:, None]
    uv = np.stack(np.broadcast_arrays(u, v[..., None]), -1)
    corner = 2 * np.arange(_POINTS - 1)[:, None] + np.array([0, 1, 3, 0, 3, 2])
    triangles = 2 * _POINTS * np.arange(len(line))[:, None, None] + corner
    count = xyz.size // 3
    return Mesh(
        xyz.reshape(-1, 3).astype(np.float32),
        np.repeat(normals.reshape(-1, 3), 2, 0).astype(np.float32),
        uv.reshape(-1, 2).astype(np.float32),
        triangles.reshape(-1, 3),
        np.tile(vector(1, 0, 0), (count, 1)),
    )


def reshaped(xyz: Floats, rng: Rng) -> Floats:
    """Points (V, 3) of modelled hair: longer or shorter, wider, wavier, blown aside."""
    below = np.minimum(xyz[:, 2] + 0.02, 0)
    xyz = xyz.copy()
    if rng.uniform() < 0.6:
        xyz[:, 2] += below * rng.uniform(-0.6, 0.6)
    if rng.uniform() < 0.5:
        xyz[:, 0] += below * rng.normal(0, 0.2)
        xyz[:, 1] += below * rng.normal(0, 0.12)
    if rng.uniform() < 0.4:  # away from the head, or closer to it
        xyz[:, 1] *= 1 - 2.5 * rng.uniform(-0.5, 1) * below.clip(-0.15)
    if rng.uniform() < 0.7:
        amplitude = rng.uniform(0.001, 0.005)
        for _ in range(4):
            wave = rng.normal(0, 2 * np.pi / rng.uniform(0.04, 0.15), 3) / np.sqrt(3)
            push = rng.normal(0, amplitude, 3)
            xyz += push * np.sin(xyz @ wave + rng.uniform(0, 2 * np.pi))[:, None]
    return np.asarray(xyz, np.float32)


def trimmed(mesh: Mesh, rng: Rng) -> Mesh:
    """Modelled hair with its ends, its fringe or one side cut off, now and then."""
    x, y, z = mesh.xyz.T
    keep = np.ones(len(x), bool)
    if rng.uniform() < 0.35:
        keep &= z + rng.normal(0, 0.3) * (x + 0.09) > rng.uniform(-0.25, 0.0)
    if rng.uniform() < 0.35:
        keep &= (x < rng.uniform(-0.06, 0.0)) | (z > rng.uniform(0.02, 0.07))
    if rng.uniform() < 0.1:
        keep &= (rng.choice([-1, 1]) * y < 0.05) | (z > rng.uniform(0.0, 0.05))
    return replace(mesh, triangles=mesh.triangles[keep[mesh.triangles].all(1)])


def lock_texture() -> NDArray[np.uint8]:
    """(S, S, 4) uint8, grey hairs along v with gaps between them."""
    rng = np.random.default_rng(1)

    def streaks(length: int, width: float) -> NDArray[np.float32]:
        noise = rng.normal(0, 1, (256, 256)).astype(np.float32)
        blurred = cv2.blur(np.tile(noise, (3, 3)), (1, length))
        blurred = cv2.GaussianBlur(blurred, (0, 0), width, sigmaY=0.01)[256:512, 256:512]
        return np.asarray((blurred - blurred.mean()) / blurred.std(), np.float32)

    grey = 150 + 40 * streaks(81, 0.6) + 20 * streaks(121, 4.0)
    alpha = 185 + 90 * streaks(121, 1.5)
    return np.stack([grey, grey, grey, alpha], -1).clip((30, 30, 30, 0), 255).astype(np.uint8)
