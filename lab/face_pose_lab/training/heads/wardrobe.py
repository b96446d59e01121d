# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Hair, clothes, eyes and things of MakeHuman, for people of both families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.training.heads import hair as growth
from face_pose_lab.training.heads import wear
from face_pose_lab.training.heads.assets import Assets, Split, mean_albedo
from face_pose_lab.training.heads.makehuman import MakeHuman, Wearable
from face_pose_lab.training.heads.mesh import (
    Floats,
    Layer,
    Material,
    Mesh,
    Part,
    Person,
    Topology,
    rgb,
    vector,
)
from face_pose_lab.training.heads.renderer import Renderer

Rng = np.random.Generator
ToHead = Callable[[Floats], Floats]  # from MakeHuman's frame [dm] to the head frame [m]
STRANDS = 'strands'  # texture of hair without a picture

_STYLES = {'bald': 0.05, 'shaved': 0.07, 'hair': 0.69, 'cap': 0.13, 'hood': 0.06}  # shares
_LONG_HAIR = ('bob01', 'bob02', 'braid01', 'long01', 'ponytail01')
_BARE_HAIR = ('afro01', 'bob01')  # without a picture
_EYES = 'high-poly'
_KINDS = ('skins', 'eyes', 'teeth', 'hair', 'clothes', 'eyebrows', 'eyelashes')


class Wardrobe:
    """Clothes and assets of a split.

    Attributes:
        model: MakeHuman's meshes.
        names: kind -> names of its textures.
        albedo: texture of the renderer -> (3,) mean linear RGB.
        reference: (V, 3) m, MakeHuman's mean head in the head frame.
    """

    def __init__(self, model: MakeHuman, assets: Assets, renderer: Renderer) -> None:
        """Load all textures of the split into the renderer."""
        self.model = model
        self.names = {kind: assets.names(kind) for kind in _KINDS}
        for kind in ('hair', 'clothes', 'eyebrows', 'eyelashes'):
            self.names[kind] = [n for n in self.names[kind] if n in model.wearables[kind]]
        self.albedo: dict[str, NDArray[np.float64]] = {}
        if assets.split_of('hair') is Split.TRAIN:
            self.names['hair'] += [n for n in _BARE_HAIR if n in model.wearables['hair']]
        for kind, names in self.names.items():
            for name in names:
                known = name in assets.pictures[kind]
                picture = assets.texture(kind, name) if known else strands()
                renderer.add_texture(f'{kind}/{name}', picture)
                self.albedo[f'{kind}/{name}'] = mean_albedo(picture)
        renderer.add_texture(STRANDS, strands())
        renderer.add_texture(growth.LOCKS, growth.lock_texture())
        self.reference = model.frame(model.reference).apply(model.reference)
        self._hand = self._hand_mesh()

    def accessories(
        self, skin: Mesh, reference: Floats, points: NDArray, material: Material, rng: Rng
    ) -> list[Part]:
        """Glasses, masks, hands and things, now and then; for both families."""
        parts = []
        if rng.uniform() < 0.2:
            parts += wear.glasses(points, rng)
        if rng.uniform() < 0.04:
            parts += wear.mask(skin, reference, rng)
        if rng.uniform() < 0.06:
            own = replace(
                material, texture=self.pick('skins', rng), beard=0.0, scalp=0.0, two_sided=True
            )
            parts += wear.hand(self._hand, own, rng)
        if rng.uniform() < 0.05:
            parts += wear.bar(rng)
        return parts

    def distractor(self, rng: Rng) -> Person:
        """A thing of the size of a head that is none."""
        frame, body = self.model.frame(self.model.reference), self.model.reference
        kind = rng.choice(['hand', 'wig', 'clothes', 'ball'], p=[0.35, 0.15, 0.2, 0.3])
        skin = Material(self.pick('skins', rng), two_sided=True)
        if kind == 'hand':
            parts = wear.hand(self._hand, skin, rng)
        elif kind == 'wig':
            parts = [self.hair(frame.apply, body, 0.5, wear.hair_colour(rng), rng)]
        elif kind == 'clothes':
            parts = [self.clothes(frame.apply, body, rng)]
        else:
            other = Material(tint=wear.cloth_colour(rng), gloss=rng.uniform(0, 0.5))
            parts = wear.ball(other if rng.uniform() < 0.6 else skin, rng)
        none = np.zeros((0, 3))
        return Person(tuple(parts), none, none, (0.3, 0.25, 0.2), 0, -1)

    def eyes(self, to_head: ToHead, body: Floats, gaze: NDArray[np.float64], rng: Rng) -> Part:
        """Eyeballs, turned to the left and up by a gaze (2,) [rad]."""
        wearable = self.model.wearables['eyes'][_EYES]
        xyz = to_head(wearable.fit(body))
        left = xyz[:, 1] > 0
        across, up = np.cos(gaze), np.sin(gaze)
        yaw = np.array([[across[0], -up[0], 0], [up[0], across[0], 0], [0, 0, 1]])
        pitch = np.array([[across[1], 0, -up[1]], [0, 1, 0], [up[1], 0, across[1]]])
        R = (yaw @ pitch).astype(np.float32)
        for side in (left, ~left):
            low, high = xyz[side].min(0), xyz[side].max(0)
            # The eyeball is a sphere but for the cornea: its width gives its centre.
            radius = 0.5 * (high[2] - low[2])
            centre = vector(low[0] + radius, *(0.5 * (low + high))[1:])
            xyz[side] = (xyz[side] - centre) @ R.T + centre
        name = self.pick('eyes', rng)
        return self._part(wearable, xyz, Material(name, gloss=0.4, shininess=60.0), Layer.DETAIL)

    def face_details(
        self, to_head: ToHead, body: Floats, jaw_open: float, male: float, hair: NDArray, rng: Rng
    ) -> list[Part]:
        """Brows, lashes, teeth."""
        wearables, parts = self.model.wearables, []
        brow = self.pick('eyebrows', rng)
        tint = np.minimum(0.8 * hair, 0.2) / (self.albedo[brow].mean() + 1e-3)
        wearable = wearables['eyebrows'][brow.split('/')[1]]
        material = Material(brow, rgb(tint), saturation=0.0, two_sided=True)
        parts.append(self._part(wearable, to_head(wearable.fit(body)), material, Layer.DETAIL))
        if rng.uniform() < 0.6 or male < 0.4:
            lashes = self.pick('eyelashes', rng)
            wearable = wearables['eyelashes'][lashes.split('/')[1]]
            material = Material(lashes, two_sided=True)
            parts.append(self._part(wearable, to_head(wearable.fit(body)), material, Layer.DETAIL))
        is_open = jaw_open > 0.05
        if is_open or rng.uniform() < 0.25:
            names = sorted(wearables['teeth'])
            wearable = wearables['teeth'][names[rng.integers(len(names))]]
            material = Material(self.pick('teeth', rng), gloss=0.2, shininess=40.0)
            parts.append(self._part(wearable, to_head(wearable.fit(body)), material, Layer.DETAIL))
        return parts

    def clothes(self, to_head: ToHead, body: Floats, rng: Rng) -> Part:
        """Clothes of the torso."""
        name = self.pick('clothes', rng)
        wearable = self.model.wearables['clothes'][name.split('/')[1]]
        tint = np.exp(rng.normal(0, 0.3)) * np.ones(3)
        saturation = 1.0
        if rng.uniform() < 0.65:  # dyed
            tint = rng.uniform(0, 1, 3) ** 1.5 / (self.albedo[name] + 0.05) * 0.5
            saturation = rng.uniform(0, 0.5)
        material = Material(name, rgb(tint), saturation=saturation, two_sided=True, gloss=0.02)
        return self._part(wearable, to_head(wearable.fit(body)), material)

    def hair(
        self, to_head: ToHead, body: Floats, male: float, colour: NDArray[np.float64], rng: Rng
    ) -> Part:
        """Hair of a colour that suits; `to_head` maps the body's frame to the head frame."""
        names = self.names['hair']
        long = rng.uniform() < (0.75 if male < 0.5 else 0.15)
        fitting = [name for name in names if (name in _LONG_HAIR) == long] or names
        name = fitting[rng.integers(len(fitting))]
        wearable = self.model.wearables['hair'][name]
        xyz = to_head(wearable.fit(body))
        if rng.uniform() < 0.6:  # fuller
            centre = vector(-0.09, 0, 0.0)
            xyz = centre + (xyz - centre) * rng.uniform(1, (1.1, 1.12, 1.06)).astype(np.float32)
        if rng.uniform() < 0.5:  # parted on the other side
            xyz = xyz * vector(1, -1, 1)
        xyz = growth.reshaped(xyz, rng)
        texture = f'hair/{name}'
        tint = colour / (self.albedo[texture].mean() + 1e-3)
        material = Material(
            texture,
            rgb(tint),
            saturation=0.0,
            two_sided=True,
            darker=rng.uniform(-0.5, 0.0),
            gloss=rng.uniform(0, 0.1),
            shininess=rng.uniform(6, 30),
        )
        part = self._part(wearable, xyz, material, Layer.COVER)
        return replace(part, mesh=growth.trimmed(part.mesh, rng))

    def headdress_style(self, rng: Rng) -> str:
        """Hair, something over it, or neither."""
        return str(rng.choice(list(_STYLES), p=list(_STYLES.values())))

    def headdress(
        self,
        style: str,
        skin: Mesh,
        reference: Floats,
        modelled: Callable[[], list[Part]],
        colour: NDArray[np.float64],
        rng: Rng,
    ) -> list[Part]:
        """Hair, cap or hood of people of either family.

        Args:
            style: Of `headdress_style`.
            skin: It wears them.
            reference: (V, 3) m, the skin on the mean head.
            modelled: Makes hair that is not grown lock by lock.
            colour: (3,) linear RGB of the hair.
            rng: Source of random numbers.
        """
        parts: list[Part] = []
        if style == 'hair' or (style == 'cap' and rng.uniform() < 0.6):
            is_grown = rng.uniform() < 0.45
            shape = growth.random_style(rng)
            parts += [self.locks(skin, shape, colour, rng)] if is_grown else modelled()
        if style in ('hair', 'cap', 'hood') and rng.uniform() < 0.3:
            parts.append(self.locks(skin, growth.loose_style(rng), colour, rng))
        if style == 'cap':
            parts += wear.cap(skin, reference, rng)
        if style == 'hood':
            parts += wear.hood(skin, reference, rng)
        return parts

    def locks(self, skin: Mesh, style: growth.Style, colour: NDArray, rng: Rng) -> Part:
        """Hair that grows on this skin."""
        material = Material(
            growth.LOCKS,
            rgb(colour / 0.33),  # about the texture's mean albedo
            two_sided=True,
            darker=rng.uniform(-0.5, 0.5),
            gloss=rng.uniform(0, 0.1),
            shininess=rng.uniform(6, 30),
        )
        return Part(growth.grown(skin, style, rng), material, Layer.COVER)

    def pick(self, kind: str, rng: Rng) -> str:
        """A texture of a kind."""
        names = self.names[kind]
        return f'{kind}/{names[rng.integers(len(names))]}'

    def _part(
        self, wearable: Wearable, xyz: Floats, material: Material, layer: Layer = Layer.BODY
    ) -> Part:
        shares = np.zeros((len(xyz), 3), np.float32)
        shares[:, 0] = wearable.head_share
        return Part(wearable.topology.mesh(xyz, shares), material, layer)

    def _hand_mesh(self) -> Mesh:
        """The hand of the mean body about its own centre, m."""
        model = self.model
        used, index = np.unique(model.hand, return_inverse=True)
        points = self.reference[used]
        corners = index.reshape(-1, 3)
        topology = Topology(
            corners, corners, np.zeros((len(used), 2), np.float32) + 0.4, len(used)
        )
        return topology.mesh(points - points.mean(0), np.zeros((len(used), 3), np.float32))


def strands() -> NDArray[np.uint8]:
    """(S, S, 4) uint8, grey strands that run along v."""
    noise = np.random.default_rng(0).normal(150, 45, (256, 256)).astype(np.float32)
    grey = cv2.blur(cv2.blur(noise, (1, 41), borderType=cv2.BORDER_REFLECT), (1, 41))
    grey = 150 + 4.5 * (grey - grey.mean())
    opaque = np.full_like(grey, 255)
    return np.stack([grey, grey, grey, opaque], -1).clip(30, 255).astype(np.uint8)
