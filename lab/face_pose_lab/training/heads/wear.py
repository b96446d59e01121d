# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Headwear, glasses, masks, hands and things before faces; meshes in the head frame, m.

Shapes and amounts are by eye: wide enough that no real cap, frame or hand is outside their range.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.training.heads.mesh import (
    Floats,
    Ids,
    Layer,
    Material,
    Mesh,
    Part,
    Rgb,
    rgb,
    vector,
)
from face_pose_ros.keypoints.semantic import NAMES

Rng = np.random.Generator

# Linear RGB and share: black, dark brown, brown, light brown, blond, red, grey, white.
_HAIR = (
    ((0.011, 0.010, 0.009), 0.28),
    ((0.030, 0.019, 0.012), 0.20),
    ((0.068, 0.039, 0.021), 0.15),
    ((0.155, 0.093, 0.050), 0.10),
    ((0.270, 0.190, 0.105), 0.11),
    ((0.210, 0.070, 0.032), 0.04),
    ((0.200, 0.200, 0.203), 0.08),
    ((0.420, 0.405, 0.390), 0.04),
)


def hair_colour(rng: Rng) -> NDArray[np.float64]:
    """(3,) linear RGB."""
    colours, shares = zip(*_HAIR, strict=True)
    colour = np.array(colours[rng.choice(len(colours), p=shares)])
    return np.asarray(colour * np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.08, 3)))


def cloth_colour(rng: Rng) -> Rgb:
    """Linear RGB of cloth or plastic, dark ones more often."""
    return rgb(0.8 * rng.uniform(0, 1, 3) ** 2 + 0.008)


def shell(skin: Mesh, chosen: NDArray[np.bool_], lift_m: float) -> Mesh:
    """Some triangles (F,) of a skin, lifted off it."""
    return Mesh(
        skin.xyz + lift_m * skin.normals,
        skin.normals,
        skin.uv,
        skin.triangles[chosen],
        skin.shares,
    )


def cap(skin: Mesh, reference: Floats, rng: Rng) -> list[Part]:
    """A cap or a woollen hat, some with a visor; `reference` (V, 3): the skin on the mean head."""
    height, rise = rng.uniform(0.028, 0.07), rng.uniform(0.0, 0.55)
    # The edge falls towards the back of the head.
    above = reference[:, 2] - height - rise * (reference[:, 0] + 0.02)
    chosen = (above[skin.triangles] > 0).all(1)
    material = Material(
        tint=cloth_colour(rng), two_sided=True, grain=rng.uniform(0, 0.4), gloss=0.02
    )
    lift = rng.uniform(0.004, 0.016) if rng.uniform() < 0.75 else rng.uniform(0.016, 0.045)
    parts = [Part(shell(skin, chosen, lift), material, Layer.COVER)]
    below = rng.uniform()
    if below < 0.4:
        edge = vector(0.0, 0.0, height + 0.002)
        parts.append(Part(_visor(edge, rng), material, Layer.OBJECT))
    elif below < 0.6:
        parts.append(Part(_brim(height, rise, rng), material, Layer.OBJECT))
    return parts


def _visor(edge: Floats, rng: Rng) -> Mesh:
    across = np.linspace(-1, 1, 15)
    reach, tilt = rng.uniform(0.045, 0.09), rng.uniform(-0.03, 0.008)
    y = 0.066 * across
    back = np.stack([0.006 - 0.05 * across**2, y, 0 * across], 1) + edge
    front_x = 0.006 - 0.05 * across**2 + reach * (1 - 0.6 * across**2)
    front = np.stack([front_x, 1.05 * y, tilt - 0.012 * across**2], 1) + edge
    return _strip(back, front)


def _brim(height: float, rise: float, rng: Rng) -> Mesh:
    """A brim all round the head, that falls with the edge of the hat."""
    angle = np.linspace(0, 2 * np.pi, 41)
    reach, droop = rng.uniform(0.03, 0.11), rng.uniform(-0.5, 0.35)
    wave = rng.uniform(0, 0.25) * np.cos(2 * angle)

    def ring(grow: float) -> Floats:
        x = -0.09 + (0.1 + grow) * np.cos(angle)
        y = (0.078 + grow) * np.sin(angle)
        return np.stack([x, y, height + rise * (x + 0.02) + grow * (wave + droop)], 1)

    return _strip(ring(0.0), ring(reach))


def hood(skin: Mesh, reference: Floats, rng: Rng) -> list[Part]:
    """A hood or headscarf: everything but an oval of the face."""
    half_width, half_height = rng.uniform(0.055, 0.075), rng.uniform(0.085, 0.11)
    oval = (reference[:, 1] / half_width) ** 2 + ((reference[:, 2] + 0.03) / half_height) ** 2
    open_ = (oval < 1) & (reference[:, 0] > -rng.uniform(0.06, 0.09))
    chosen = ~open_[skin.triangles].any(1) & (skin.shares[:, 0][skin.triangles] > 0.3).all(1)
    material = Material(
        tint=cloth_colour(rng), two_sided=True, grain=rng.uniform(0, 0.3), gloss=0.02
    )
    return [Part(shell(skin, chosen, rng.uniform(0.006, 0.018)), material, Layer.COVER)]


def mask(skin: Mesh, reference: Floats, rng: Rng) -> list[Part]:
    """A mask over mouth and nose."""
    x, y, z = reference.T
    top = rng.uniform(-0.035, -0.02) - 0.2 * np.abs(y)
    inside = (z < top) & (z > -0.128) & (np.abs(y) < 0.066) & (x > -0.075)
    chosen = inside[skin.triangles].all(1)
    tint = cloth_colour(rng) if rng.uniform() < 0.4 else rgb(rng.uniform(0.4, 0.85, 3))
    return [Part(shell(skin, chosen, 0.004), Material(tint=tint, gloss=0.02), Layer.OBJECT)]


def glasses(keypoints: NDArray[np.float64], rng: Rng) -> list[Part]:
    """Spectacles that fit a head with these keypoints; some have dark lenses."""
    at = lambda name: keypoints[NAMES.index(name)]  # noqa: E731
    eyes = [0.5 * (at(f'eye_outer_{s}') + at(f'eye_inner_{s}')) for s in ('right', 'left')]
    front = max(at('nasal_root')[0], max(e[0] for e in eyes) + 0.012) + rng.uniform(0.002, 0.008)
    half_width, half_height = rng.uniform(0.021, 0.029), rng.uniform(0.014, 0.026)
    rim, corner = rng.uniform(0.0012, 0.005), rng.choice([2.0, 2.5, 4.0, 6.0])
    drop = rng.uniform(0.0, 0.007)
    frame = Material(
        tint=rgb(rng.uniform(0, 1, 3) ** 3), two_sided=True, gloss=0.3, shininess=30.0
    )
    lens = Material(
        tint=rgb(np.full(3, rng.uniform(0.004, 0.05))), two_sided=True, gloss=0.5, shininess=60.0
    )
    angle = np.linspace(0, 2 * np.pi, 27)
    c, s = np.cos(angle), np.sin(angle)
    across = np.sign(c) * np.abs(c) ** (2 / corner)
    up = np.sign(s) * np.abs(s) ** (2 / corner)
    meshes, lenses, inner_ends = [], [], []
    for sign, eye, side in ((-1, eyes[0], 'right'), (1, eyes[1], 'left')):
        y0 = sign * max(abs(eye[1]), half_width + 0.007)
        z0 = eye[2] - drop

        def loop(grow: float, back: float, y0: float = y0, z0: float = z0) -> Floats:
            y = y0 + (half_width + grow) * across
            x = front - back - 4.0 * np.maximum(np.abs(y) - 0.025, 0) ** 2
            return np.stack([x, y, z0 + (half_height + grow) * up], 1)

        meshes += [_strip(loop(rim, 0), loop(0, 0)), _strip(loop(rim, 0), loop(rim, 1.5 * rim))]
        lenses.append(_fan(loop(0, 0.001)))
        ear = at(f'superaurale_{side}') * (1, 1.01, 1) - (0.004, 0, 0.006)
        outer = loop(rim, 0)
        hinge = outer[np.argmax(sign * outer[:, 1])] + (0, 0, 0.5 * half_height)
        thick = np.array([0, 0, rim * rng.uniform(1.0, 2.5)])
        hook = ear + vector(-0.012, -0.002 * sign, -0.028)
        meshes.append(_strip(np.stack([hinge, ear, hook]), np.stack([hinge, ear, hook]) + thick))
        inner_ends.append(np.array([front, y0 - sign * half_width, z0 + 0.3 * half_height]))
    thick = np.array([0, 0, 1.5 * rim])
    bridge = np.stack(inner_ends)
    meshes.append(_strip(bridge, bridge + thick))
    parts = [Part(_merged(meshes), frame, Layer.DETAIL)]
    if rng.uniform() < 0.35:
        parts.append(Part(_merged(lenses), lens, Layer.OBJECT))
    return parts


def hand(mesh: Mesh, material: Material, rng: Rng) -> list[Part]:
    """A hand before the face or at the head, in any attitude; `mesh` is about its own centre."""
    place = np.array([rng.uniform(0.0, 0.1), rng.uniform(-0.09, 0.09), rng.uniform(-0.14, 0.06)])
    if rng.uniform() < 0.3:  # beside the face, as with a telephone
        place = np.array([-0.05, rng.choice([-1, 1]) * 0.11, rng.uniform(-0.1, 0.02)])
    R = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix().astype(np.float32)
    flip = vector(1, rng.choice([-1, 1]), 1)  # a left or a right one
    moved = Mesh(
        (mesh.xyz * flip) @ R.T + place.astype(np.float32),
        (mesh.normals * flip) @ R.T,
        mesh.uv,
        mesh.triangles,
        np.tile(vector(1, 0, 0), (len(mesh.xyz), 1)),
    )
    return [Part(moved, material, Layer.OBJECT)]


def bar(rng: Rng) -> list[Part]:
    """A stick, telephone, cup or card near the face: a box."""
    size = np.exp(rng.uniform(np.log(0.008), np.log(0.07), 3)) * (0.3, 1, 1.6)
    corners = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing='ij'), -1).reshape(-1, 3) * size
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    triangles = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    R = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    place = (rng.uniform(0.03, 0.12), rng.uniform(-0.09, 0.09), rng.uniform(-0.13, 0.06))
    material = Material(tint=cloth_colour(rng), gloss=rng.uniform(0, 0.4), two_sided=True)
    mesh = _flat(corners[np.array(triangles)] @ R.T + place)
    return [Part(mesh, material, Layer.OBJECT)]


def ball(material: Material, rng: Rng) -> list[Part]:
    """An ellipsoid of about a head's size and place."""
    turn, height = np.linspace(0, 2 * np.pi, 33), np.linspace(-np.pi / 2, np.pi / 2, 17)
    strips = []
    for low, high in pairwise(height):
        rings = [
            np.stack([np.cos(h) * np.cos(turn), np.cos(h) * np.sin(turn), 0 * turn + np.sin(h)], 1)
            for h in (low, high)
        ]
        strips.append(_strip(*rings))
    mesh = _merged(strips)
    radii = rng.uniform(0.05, 0.13, 3).astype(np.float32)
    normals = mesh.xyz / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    centre = vector(-0.08, 0, 0)
    moved = Mesh(
        mesh.xyz * radii + centre,
        normals,
        0.5 + 0.2 * mesh.xyz[:, 1:],
        mesh.triangles,
        mesh.shares,
    )
    return [Part(moved, replace(material, two_sided=True), Layer.OBJECT)]


def _strip(a: Floats, b: Floats) -> Mesh:
    """Quadrilaterals between two lines (P, 3)."""
    low = np.stack([a[:-1], b[:-1], b[1:]], 1)
    high = np.stack([a[:-1], b[1:], a[1:]], 1)
    return _flat(np.concatenate([low, high]))


def _fan(loop: Floats) -> Mesh:
    """Triangles from a loop (P, 3) to its middle."""
    middle = np.broadcast_to(loop[:-1].mean(0), loop[:-1].shape)
    return _flat(np.stack([middle, loop[:-1], loop[1:]], 1))


def _flat(corners: Floats) -> Mesh:
    """A mesh of triangles (F, 3, 3) that share no vertex."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    count = 3 * len(corners)
    return Mesh(
        corners.reshape(-1, 3).astype(np.float32),
        np.repeat(normals, 3, 0).astype(np.float32),
        np.zeros((count, 2), np.float32),
        np.arange(count).reshape(-1, 3),
        np.tile(vector(1, 0, 0), (count, 1)),
    )


def _merged(meshes: list[Mesh]) -> Mesh:
    first = np.cumsum([0] + [len(m.xyz) for m in meshes])
    triangles: list[Ids] = [
        m.triangles + start for m, start in zip(meshes, first[:-1], strict=True)
    ]
    return Mesh(
        np.concatenate([m.xyz for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate(triangles),
        np.concatenate([m.shares for m in meshes]),
    )
