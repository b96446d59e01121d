# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random people of MakeHuman, dressed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.training.heads import paint, wear
from face_pose_lab.training.heads.makehuman import MakeHuman
from face_pose_lab.training.heads.mesh import Floats, Material, Part, Person, rgb, unit
from face_pose_lab.training.heads.wardrobe import Wardrobe

Rng = np.random.Generator
FAMILY = 0

_SHAPED = 0.16  # share of the targets that a person has
_SHAPED_SIGMA, _SHAPED_LIMIT = 0.38, 0.9
_SYMMETRIC = 0.92  # share of these that both sides have alike
_UNLIKELY = ('pointed', 'wing')  # ears that people do not have


@dataclass(frozen=True)
class Traits:
    """Traits that determine suitable appearance."""

    male: float  # in [0, 1]
    african: float  # share of the origin


class MakeHumanPeople:
    """Makes people."""

    def __init__(self, model: MakeHuman, wardrobe: Wardrobe) -> None:
        self._model, self._wardrobe = model, wardrobe
        reference = wardrobe.reference
        shares = [model.head_share, paint.beard(reference), paint.scalp(reference)]
        self._shares = np.stack(shares, 1).astype(np.float32)
        self._on_skin = reference[model.skin.point]
        kinds = model.kinds
        self._shaping = np.flatnonzero((kinds != 'macro') & (kinds != 'expression'))
        self._expressions = [
            name
            for name, kind in zip(model.names, kinds, strict=True)
            if kind == 'expression' and 'eyeLook' not in name and 'tongue' not in name
        ]

    def person(self, identity: int, rng: Rng) -> Person:
        """A person with an expression, appearance and clothes."""
        model, wardrobe = self._model, self._wardrobe
        weights, traits = self.neutral(rng)
        frame = model.frame(model.shape(weights))
        gaze = self._express(weights, rng)
        body = model.shape(weights)
        xyz = frame.apply(body)
        hair = wear.hair_colour(rng)
        style = wardrobe.headdress_style(rng)
        skin = self._skin_material(traits, hair, style, rng)
        mesh = model.skin.mesh(xyz, self._shares)
        albedo = wardrobe.albedo[skin.texture] * skin.tint
        parts = [Part(mesh, skin), wardrobe.eyes(frame.apply, body, gaze, rng)]
        parts += wardrobe.face_details(
            frame.apply, body, float(weights[model.index['jawOpen']]), traits.male, hair, rng
        )
        if rng.uniform() < 0.88:
            parts.append(wardrobe.clothes(frame.apply, body, rng))
        parts += wardrobe.headdress(
            style,
            mesh,
            self._on_skin,
            lambda: [wardrobe.hair(frame.apply, body, traits.male, hair, rng)],
            hair,
            rng,
        )
        points = model.keypoints.of(xyz)
        normals = model.keypoints.of(model.skin.point_normals(xyz))
        parts += wardrobe.accessories(mesh, self._on_skin, points, skin, rng)
        return Person(
            tuple(parts),
            points,
            unit(normals),
            rgb(albedo),
            FAMILY,
            identity,
        )

    def neutral(self, rng: Rng) -> tuple[Floats, Traits]:
        """Weights (T,) of a neutral head, and its traits."""
        model, weights = self._model, np.zeros(len(self._model.names), np.float32)
        male = rng.choice(
            [rng.uniform(0, 0.25), rng.uniform(0.75, 1), rng.uniform()], p=[0.4, 0.4, 0.2]
        )
        origins = dict(
            zip(('african', 'asian', 'caucasian'), rng.dirichlet([0.45] * 3), strict=True)
        )
        if rng.uniform() < 0.16:
            child = rng.uniform(0.2, 0.9)
            ages = {'child': child, 'young': 1 - child, 'old': 0.0}
        else:
            old = rng.beta(1, 1.6)
            ages = {'child': 0.0, 'young': 1 - old, 'old': old}
        muscle = dict(zip(('min', 'average', 'max'), rng.dirichlet([1, 3, 1]), strict=True))
        weight = dict(zip(('min', 'average', 'max'), rng.dirichlet([0.7, 1.5, 0.9]), strict=True))
        for i in np.flatnonzero(model.kinds == 'macro'):
            first, sex, age, *build = model.names[i].split('-')
            share = ages[age] * (male if sex == 'male' else 1 - male)
            if first == 'universal':
                share *= muscle[build[0].removesuffix('muscle')]
                share *= weight[build[1].removesuffix('weight')]
            else:
                share *= origins[first]
            weights[i] = share
        for i in self._shaping:
            name = model.names[i]
            if rng.uniform() > _SHAPED or any(word in name for word in _UNLIKELY):
                continue
            amount = min(abs(rng.normal(0, _SHAPED_SIGMA)), _SHAPED_LIMIT)
            amount *= 0.5 if model.kinds[i] == 'asym' else 1.0
            weights[i] += amount
            other = {'l-': 'r-', 'r-': 'l-'}.get(name[:2])
            if other and rng.uniform() < _SYMMETRIC and other + name[2:] in model.index:
                weights[model.index[other + name[2:]]] = weights[i]
        return weights, Traits(float(male), float(origins['african']))

    def _express(self, weights: Floats, rng: Rng) -> NDArray[np.float64]:
        """Add an expression to weights (T,); returns where the eyes turn: left, up [rad]."""
        index = self._model.index
        if rng.uniform() < 0.75:
            for name in rng.choice(self._expressions, rng.integers(1, 6), replace=False):
                amount = rng.uniform(0, 0.9)
                weights[index[name]] = amount
                other = (
                    name.replace('Left', 'Right')
                    if name.endswith('Left')
                    else name.replace('Right', 'Left')
                )
                if other != name and rng.uniform() < 0.85:
                    weights[index[other]] = amount * rng.uniform(0.8, 1.2)
            if rng.uniform() < 0.3:
                weights[index['jawOpen']] = rng.uniform(0.1, 0.9)
            if rng.uniform() < 0.45:
                smile = rng.uniform(0.3, 1)
                weights[index['mouthSmileLeft']] = weights[index['mouthSmileRight']] = smile
        if rng.uniform() < 0.1:
            blink = rng.uniform(0.5, 1)
            weights[index['eyeBlinkLeft']] = weights[index['eyeBlinkRight']] = blink
        gaze = rng.normal(0, (0.22, 0.12)).clip(-0.5, 0.5)
        lids = 'eyeLookUp' if gaze[1] > 0 else 'eyeLookDown'
        for side in ('Left', 'Right'):
            weights[index[lids + side]] = abs(gaze[1]) / 0.5
        return np.asarray(gaze)

    def _skin_material(
        self, traits: Traits, hair: NDArray[np.float64], style: str, rng: Rng
    ) -> Material:
        names = self._wardrobe.names['skins']
        dark = traits.african > 0.5 and rng.uniform() < 0.85
        fitting = [
            name
            for name in names
            if ('dark' in name) == dark and (dark or ('female' in name) == (traits.male < 0.5))
        ]
        name = (fitting or names)[rng.integers(len(fitting or names))]
        tone = np.exp(rng.normal(0, 0.22))
        # The lightness of the textures is narrow: some faces are darkened.
        tone *= 1.0 if dark else rng.choice([1.0, 0.72, 0.5, 0.32], p=[0.58, 0.2, 0.14, 0.08])
        warmth = np.array([1, 1 - abs(rng.normal(0, 0.06)), 1 - abs(rng.normal(0, 0.12))])
        beard = 0.0
        if traits.male > 0.55:
            beard = rng.choice(
                [0.0, rng.uniform(0.2, 0.6), rng.uniform(0.7, 1)], p=[0.5, 0.3, 0.2]
            )
        tint = tone * warmth
        return Material(
            f'skins/{name}',
            rgb(tint),
            darker=rng.uniform(-0.2, 0.3),
            gloss=rng.uniform(0, 0.12),
            shininess=rng.uniform(8, 40),
            beard=float(beard),
            scalp=0.0 if style in ('bald', 'hood') else rng.uniform(0.5, 1),
            hair=rgb(hair),
        )
