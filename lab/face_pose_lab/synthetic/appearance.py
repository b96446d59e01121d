# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Colours of a head: procedural, per person, as functions of the place on the reference head.

ICT-FaceKit light has no textures. Tones, proportions and amounts are by eye, chosen so that a
network trained on photographs takes the pictures for faces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.synthetic.body import AXIS_X, Material
from face_pose_lab.synthetic.ict_facekit import IctFaceKit, eye_centres
from face_pose_lab.synthetic.paint import Layer, paint_front, sample_front
from face_pose_lab.synthetic.shading import from_srgb

# sRGB tones of human skin from light to dark, after the range of the Fitzpatrick scale.
_SKIN_SRGB = (
    (243, 206, 186),
    (230, 184, 158),
    (208, 157, 125),
    (172, 118, 86),
    (124, 80, 56),
    (78, 50, 38),
)
# Black to blond, red, grey; (colour, share).
_HAIR_SRGB = (
    ((22, 19, 18), 0.34),
    ((46, 32, 25), 0.22),
    ((84, 58, 40), 0.16),
    ((150, 112, 70), 0.1),
    ((112, 56, 32), 0.05),
    ((130, 126, 122), 0.08),
    ((200, 196, 190), 0.05),
)
_IRIS_SRGB = ((60, 38, 22), (84, 56, 32), (110, 92, 50), (92, 112, 120), (84, 110, 84))
_IRIS_RADIUS_M = 0.0059
_DARK = 2.5  # index of _SKIN_SRGB from which hair and eyes are dark


@dataclass(frozen=True)
class Appearance:
    """Appearance of one person; colours are linear RGB."""

    skin: Tensor  # (3,)
    hair: Tensor  # (3,)
    brow: Tensor  # (3,)
    lips: Tensor  # (3,) factor on the skin's colour
    iris: Tensor  # (3,)
    cloth: Tensor  # (3,), and that of its stripes
    cloth_stripe: Tensor  # (3,)
    scalp: float  # how far hair covers the painted scalp, in [0, 1]
    beard: float  # in [0, 1]
    redness: float  # of cheeks, nose and ears
    mottle: float  # relative amplitude of the skin's unevenness
    pupil_m: float  # radius
    collar_m: float  # height at which the cloth begins, at the neck's axis
    gloss: float  # of the skin
    front: Tensor  # (layers, H, W) in [0, 1], see `paint_front`
    noise: Tensor  # (1, 4, 33, 33, 33) smooth noise of unit variance, periodic


class People:
    """Makes people, and gives the albedo of their surfaces."""

    def __init__(self, facekit: IctFaceKit, device: torch.device | str = 'cpu') -> None:
        self._landmarks = facekit.neutral[facekit.landmark68_vertices]
        self._device = device
        eyes = torch.from_numpy(eye_centres(facekit.neutral[None])[0])
        self._eyes = eyes.to(device, torch.float32)

    def person(self, rng: np.random.Generator) -> Appearance:
        """Draw the appearance of a person."""
        tones = _linear(*_SKIN_SRGB)
        tone = rng.uniform(0, len(tones) - 1)
        skin = np.exp([np.interp(tone, range(len(tones)), np.log(c)) for c in tones.T])
        skin *= np.exp(rng.normal(0, 0.08) + rng.normal(0, 0.025, 3))
        colours, shares = zip(*_HAIR_SRGB, strict=True)
        hair = _linear(*colours)[rng.choice(len(colours), p=shares)] * np.exp(rng.normal(0, 0.2))
        irises = _linear(*_IRIS_SRGB)
        if tone > _DARK:
            hair, irises = np.minimum(hair, 0.02), irises[:2]
        lips = np.array([0.85, 0.52, 0.52]) * np.exp(rng.normal(0, 0.08, 3))
        if rng.uniform() < 0.15:  # lipstick
            lips *= [1.0, rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.7)]
        cloth = rng.uniform(0.01, 0.8, 3) ** 1.5
        beards = [0.0, rng.uniform(0.15, 0.5), rng.uniform(0.6, 0.95)]
        noise = rng.normal(size=(4, 32, 32, 32)).astype(np.float32)
        return Appearance(
            skin=self._tensor(skin),
            hair=self._tensor(hair),
            brow=self._tensor(np.minimum(0.8 * hair, 0.5 * skin)),
            lips=self._tensor(lips),
            iris=self._tensor(irises[rng.integers(len(irises))]),
            cloth=self._tensor(cloth),
            cloth_stripe=self._tensor(cloth * rng.uniform(0.3, 1.0, 3)),
            scalp=float(rng.uniform(0.5, 1.0)),
            beard=float(rng.choice(beards, p=[0.62, 0.25, 0.13])),
            redness=float(rng.uniform(0.1, 0.6)),
            mottle=float(rng.uniform(0.03, 0.12)),
            pupil_m=float(rng.uniform(0.0015, 0.003)),
            collar_m=float(rng.uniform(-0.2, -0.15)),
            gloss=float(rng.uniform(0.2, 1.2)),
            front=paint_front(self._landmarks, rng).to(self._device),
            noise=F.pad(self._tensor(noise)[None], (0, 1) * 3, mode='circular'),
        )

    def _tensor(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values).to(self._device, torch.float32)

    def albedo(
        self, appearance: Appearance, material: Tensor, xyz: Tensor, above_hairline: Tensor
    ) -> Tensor:
        """Albedo (P, 3), linear RGB.

        Args:
            appearance: The person.
            material: (P,) int64, values of Material.
            xyz: (P, 3) places on the reference head [m].
            above_hairline: (P,) [m], see Body.
        """
        colours: dict[Material, Callable[[Tensor, Tensor], Tensor]] = {
            Material.SKIN: lambda p, above: self._skin(appearance, p, above),
            Material.EYE: lambda p, _: self._eye(appearance, p),
            Material.MOUTH: lambda p, _: p.new_tensor([0.3, 0.07, 0.07]),
            Material.TEETH: lambda p, _: p.new_tensor([0.62, 0.56, 0.45]),
            Material.HAIR: lambda p, _: _hair(appearance, p),
            Material.CLOTH: lambda p, _: _cloth(appearance, p),
        }
        albedo = torch.empty_like(xyz)
        for kind, colour in colours.items():
            chosen = (material == kind).nonzero().squeeze(-1)
            albedo[chosen] = colour(xyz[chosen], above_hairline[chosen])
        return albedo.clamp(0, 1)

    def _skin(self, appearance: Appearance, xyz: Tensor, above_hairline: Tensor) -> Tensor:
        low = _sample_noise(appearance.noise, xyz / 0.25)
        fine = _sample_noise(appearance.noise, xyz / 0.04)
        strands = _sample_noise(appearance.noise, xyz / 0.014)
        lift = appearance.mottle * (0.8 * low[0] + 0.35 * fine[0])
        red = appearance.redness * _flush(xyz) + 0.06 * fine[1]
        colour = appearance.skin * torch.exp(
            lift[:, None] - red.clamp_min(-0.2)[:, None] * xyz.new_tensor([0.05, 0.5, 0.45])
        )
        painted = sample_front(appearance.front, xyz)
        colour = colour * (1 - painted[Layer.MARKS, :, None] * xyz.new_tensor([0.45, 0.55, 0.6]))
        colour = _mix(colour, colour * appearance.lips, painted[Layer.LIPS])
        stubble = painted[Layer.BEARD] * appearance.beard * (1 + 0.35 * strands[0])
        colour = _mix(colour, appearance.brow, stubble.clamp(0, 0.95))
        colour = _mix(colour, appearance.brow, painted[Layer.BROW])
        roots = ((above_hairline + 0.004 * fine[2]) / 0.008).clamp(0, 1)
        colour = _mix(colour, _hair(appearance, xyz), roots * appearance.scalp)
        cloth = (_collar(appearance, xyz) / 0.003).clamp(0, 1)
        return _mix(colour, _cloth(appearance, xyz), cloth)

    def _eye(self, appearance: Appearance, xyz: Tensor) -> Tensor:
        centre = torch.where(xyz[:, 1:2] > 0, self._eyes[0], self._eyes[1])
        radius = (xyz - centre)[:, 1:].norm(dim=-1)
        angle = torch.atan2(xyz[:, 2] - centre[:, 2], xyz[:, 1] - centre[:, 1])
        white = xyz.new_tensor([0.62, 0.56, 0.54]) - (radius / 0.03)[:, None] * xyz.new_tensor(
            [0.1, 0.25, 0.25]
        )
        spokes = 1 + 0.25 * torch.sin(23 * angle) * torch.sin(9 * angle + 1)
        limbus = 1 - 0.6 * ((radius / _IRIS_RADIUS_M - 0.75) / 0.25).clamp(0, 1)
        iris = appearance.iris * (spokes * limbus)[:, None]
        colour = _mix(white, iris, ((_IRIS_RADIUS_M - radius) / 0.0005).clamp(0, 1))
        pupil = ((appearance.pupil_m - radius) / 0.0003).clamp(0, 1)
        return _mix(colour, torch.full_like(colour, 0.004), pupil)


def _flush(xyz: Tensor) -> Tensor:
    """Redness in [0, 1]: cheeks, tip of the nose, ears, chin."""
    place = torch.stack([xyz[:, 0], xyz[:, 1].abs(), xyz[:, 2]], -1)
    spots = (
        ((-0.015, 0.042, -0.038), 0.018, 1.0),
        ((0.022, 0.0, -0.04), 0.012, 1.0),
        ((-0.11, 0.09, -0.025), 0.03, 0.8),
        ((-0.005, 0.0, -0.108), 0.014, 0.4),
    )
    total = torch.zeros_like(place[:, 0])
    for centre, radius, amount in spots:
        distance_sq = ((place - place.new_tensor(centre)) ** 2).sum(-1)
        total = total + amount * torch.exp(-0.5 * distance_sq / radius**2)
    return total


def _hair(appearance: Appearance, xyz: Tensor) -> Tensor:
    angle = torch.atan2(xyz[:, 1], xyz[:, 0] - AXIS_X)
    across = torch.stack([angle / 0.25, xyz[:, 2] / 0.3, xyz[:, 0] / 0.3], -1)
    streaks = _sample_noise(appearance.noise, across)
    strands = _sample_noise(appearance.noise, 5 * across * xyz.new_tensor([1.0, 0.3, 0.3]))
    return appearance.hair * torch.exp(0.35 * streaks[2] + 0.3 * strands[3])[:, None]


def _collar(appearance: Appearance, xyz: Tensor) -> Tensor:
    """Depth below the neckline, which rises towards the back [m]."""
    return appearance.collar_m + 0.45 * (AXIS_X - xyz[:, 0]) - xyz[:, 2]


def _sample_noise(noise: Tensor, place: Tensor) -> Tensor:
    """(4, P) noise at places (P, 3); it repeats with period 1, with 32 grains in between."""
    grid = 2 * (place - place.floor()) - 1
    return F.grid_sample(noise, grid[None, None, None], align_corners=True)[0, :, 0, 0]


def _cloth(appearance: Appearance, xyz: Tensor) -> Tensor:
    weave = 0.5 + 0.5 * torch.sin(xyz[:, 2] * (2 * math.pi / 0.05))
    return _mix(appearance.cloth.expand_as(xyz), appearance.cloth_stripe, weave)


def _mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return a + (b - a) * share[:, None]


def _linear(*srgb: tuple[int, int, int]) -> NDArray[np.float64]:
    """Colours (N, 3) in linear RGB."""
    return from_srgb(torch.tensor(srgb, dtype=torch.float64) / 255).numpy()
