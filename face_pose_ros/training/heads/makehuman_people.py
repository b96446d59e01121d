"""Random people of MakeHuman, dressed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.training.heads import paint, wear
from face_pose_ros.training.heads.assets import Assets, Split, mean_albedo
from face_pose_ros.training.heads.makehuman import MakeHuman, Wearable
from face_pose_ros.training.heads.mesh import Floats, Layer, Material, Mesh, Part, Person, Topology
from face_pose_ros.training.heads.renderer import Renderer

Rng = np.random.Generator
FAMILY = 0

_SHAPED = 0.16  # share of the targets that a person has
_SHAPED_SIGMA, _SHAPED_LIMIT = 0.38, 0.9
_SYMMETRIC = 0.92  # share of these that both sides have alike
_UNLIKELY = ('pointed', 'wing')  # ears that nobody has
_LONG_HAIR = ('bob01', 'bob02', 'braid01', 'long01', 'ponytail01')
_BARE_HAIR = ('afro01', 'bob01')
_EYES = 'high-poly'
STRANDS = 'strands'  # texture of hair without a picture


def strands() -> NDArray[np.uint8]:
    """(S, S, 4) uint8, grey strands that run along v."""
    noise = np.random.default_rng(0).normal(150, 45, (256, 256)).astype(np.float32)
    grey = cv2.blur(cv2.blur(noise, (1, 41), borderType=cv2.BORDER_REFLECT), (1, 41))
    grey = 150 + 4.5 * (grey - grey.mean())
    opaque = np.full_like(grey, 255)
    return np.stack([grey, grey, grey, opaque], -1).clip(30, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Traits:
    """What looks have to agree with."""

    male: float  # in [0, 1]
    african: float  # share of the origin


class MakeHumanPeople:
    """Makes people."""

    def __init__(self, model: MakeHuman, assets: Assets, renderer: Renderer) -> None:
        """Load all textures of the split into the renderer."""
        self._model, self._is_test = model, assets.split is Split.TEST
        self._names = {}
        self._albedo: dict[str, NDArray[np.float64]] = {}
        for kind in ('skins', 'eyes', 'teeth', 'hair', 'clothes', 'eyebrows', 'eyelashes'):
            self._names[kind] = assets.names(kind)
            for name in self._names[kind]:
                picture = assets.texture(kind, name)
                renderer.add_texture(f'{kind}/{name}', picture)
                self._albedo[f'{kind}/{name}'] = mean_albedo(picture)
        # Hair without a picture of its own has made-up strands.
        bare = [name for name in _BARE_HAIR if not self._is_test and name in model.wearables['hair']]
        renderer.add_texture(STRANDS, strands())
        for name in bare:
            self._names['hair'].append(name)
            renderer.add_texture(f'hair/{name}', strands())
            self._albedo[f'hair/{name}'] = mean_albedo(strands())
        frame = model.frame(model.reference)
        self.reference = frame.apply(model.reference)  # (V, 3) m, the mean head
        shares = [model.head_share, paint.beard(self.reference), paint.scalp(self.reference)]
        self._shares = np.stack(shares, 1).astype(np.float32)
        self._on_skin = self.reference[model.skin.point]
        self._hand = self._hand_mesh()
        kinds = model.kinds
        self._shaping = np.flatnonzero((kinds != 'macro') & (kinds != 'expression'))
        self._expressions = [
            name
            for name, kind in zip(model.names, kinds, strict=True)
            if kind == 'expression' and 'eyeLook' not in name and 'tongue' not in name
        ]

    def person(self, identity: int, rng: Rng) -> Person:
        """A person with an expression, looks and things worn."""
        model = self._model
        weights, traits = self._identity(rng)
        neutral = model.shape(weights)
        frame = model.frame(neutral)
        gaze = self._express(weights, rng)
        body = model.shape(weights)
        xyz = frame.apply(body)
        hair = wear.hair_colour(rng)
        style = rng.choice(
            ['bald', 'shaved', 'hair', 'cap', 'hood'], p=[0.07, 0.08, 0.67, 0.12, 0.06]
        )
        skin = self._skin_material(traits, hair, style, rng)
        mesh = model.skin.mesh(xyz, self._shares)
        albedo = self._albedo[skin.texture] * skin.tint
        parts = [Part(mesh, skin), self._eyes(frame.apply, body, gaze, rng)]
        parts += self._face_details(frame.apply, body, weights, traits, hair, rng)
        if rng.uniform() < 0.88:
            parts.append(self._clothes(frame.apply, body, rng))
        if style == 'hair' or (style == 'cap' and rng.uniform() < 0.5):
            parts.append(self.hair(frame.apply, body, traits.male, hair, rng))
        if style == 'cap':
            parts += wear.cap(mesh, self._on_skin, rng)
        if style == 'hood':
            parts += wear.hood(mesh, self._on_skin, rng)
        points = model.keypoints.of(xyz)
        normals = model.keypoints.of(model.skin.point_normals(xyz))
        parts += self.accessories(mesh, self._on_skin, points, skin, rng)
        return Person(
            tuple(parts),
            points,
            normals / np.linalg.norm(normals, axis=1, keepdims=True),
            (float(albedo[0]), float(albedo[1]), float(albedo[2])),
            FAMILY,
            identity,
        )

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
            of_hand = self._names['skins'][rng.integers(len(self._names['skins']))]
            own = replace(material, texture=f'skins/{of_hand}', beard=0.0, scalp=0.0)
            parts += wear.hand(self._hand, own, rng)
        if rng.uniform() < 0.05:
            parts += wear.bar(rng)
        return parts

    def distractor(self, rng: Rng) -> Person:
        """A thing of the size of a head that is none."""
        frame, body = self._model.frame(self._model.reference), self._model.reference
        kind = rng.choice(['hand', 'wig', 'clothes', 'ball'], p=[0.35, 0.15, 0.2, 0.3])
        skin = Material(self._pick('skins', rng), two_sided=True)
        if kind == 'hand':
            parts = wear.hand(self._hand, skin, rng)
        elif kind == 'wig':
            parts = [self.hair(frame.apply, body, 0.5, wear.hair_colour(rng), rng)]
        elif kind == 'clothes':
            parts = [self._clothes(frame.apply, body, rng)]
        else:
            other = Material(tint=wear.cloth_colour(rng), gloss=rng.uniform(0, 0.5))
            parts = wear.ball(other if rng.uniform() < 0.6 else skin, rng)
        none = np.zeros((0, 3))
        return Person(tuple(parts), none, none, (0.3, 0.25, 0.2), FAMILY, -1)

    def _identity(self, rng: Rng) -> tuple[Floats, _Traits]:
        """Weights (T,) of a neutral head."""
        model, weights = self._model, np.zeros(len(self._model.names), np.float32)
        male = rng.choice(
            [rng.uniform(0, 0.25), rng.uniform(0.75, 1), rng.uniform()], p=[0.4, 0.4, 0.2]
        )
        origins = dict(zip(('african', 'asian', 'caucasian'), rng.dirichlet([0.45] * 3), strict=True))
        if rng.uniform() < 0.1:
            child = rng.uniform(0.2, 0.8)
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
        return weights, _Traits(float(male), float(origins['african']))

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
        self, traits: _Traits, hair: NDArray[np.float64], style: str, rng: Rng
    ) -> Material:
        names = self._names['skins']
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
            beard = rng.choice([0.0, rng.uniform(0.2, 0.6), rng.uniform(0.7, 1)], p=[0.5, 0.3, 0.2])
        tint = tone * warmth
        return Material(
            f'skins/{name}',
            (float(tint[0]), float(tint[1]), float(tint[2])),
            darker=rng.uniform(-0.2, 0.3),
            gloss=rng.uniform(0, 0.12),
            shininess=rng.uniform(8, 40),
            beard=float(beard),
            scalp=0.0 if style in ('bald', 'hood') else rng.uniform(0.5, 1),
            hair=tuple(hair),
        )

    def _part(
        self, wearable: Wearable, xyz: Floats, material: Material, layer: Layer = Layer.BODY
    ) -> Part:
        shares = np.zeros((len(xyz), 3), np.float32)
        shares[:, 0] = wearable.head_share
        return Part(wearable.topology.mesh(xyz, shares), material, layer)

    def _eyes(self, to_head, body: Floats, gaze: NDArray[np.float64], rng: Rng) -> Part:
        wearable = self._model.wearables['eyes'][_EYES]
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
            centre = np.float32([low[0] + radius, *(0.5 * (low + high))[1:]])
            xyz[side] = (xyz[side] - centre) @ R.T + centre
        name = self._pick('eyes', rng)
        return self._part(wearable, xyz, Material(name, gloss=0.4, shininess=60.0))

    def _face_details(
        self, to_head, body: Floats, weights: Floats, traits: _Traits, hair: NDArray, rng: Rng
    ) -> list[Part]:
        wearables, parts = self._model.wearables, []
        brow = self._pick('eyebrows', rng)
        tint = np.minimum(0.8 * hair, 0.2) / (self._albedo[brow].mean() + 1e-3)
        wearable = wearables['eyebrows'][brow.split('/')[1]]
        material = Material(brow, tuple(tint), saturation=0.0, two_sided=True)
        parts.append(self._part(wearable, to_head(wearable.fit(body)), material, Layer.DETAIL))
        if rng.uniform() < 0.6 or traits.male < 0.4:
            lashes = self._pick('eyelashes', rng)
            wearable = wearables['eyelashes'][lashes.split('/')[1]]
            material = Material(lashes, two_sided=True)
            parts.append(self._part(wearable, to_head(wearable.fit(body)), material, Layer.DETAIL))
        is_open = weights[self._model.index['jawOpen']] > 0.05
        if is_open or rng.uniform() < 0.25:
            names = sorted(wearables['teeth'])
            wearable = wearables['teeth'][names[rng.integers(len(names))]]
            material = Material(self._pick('teeth', rng), gloss=0.2, shininess=40.0)
            parts.append(self._part(wearable, to_head(wearable.fit(body)), material))
        return parts

    def _clothes(self, to_head, body: Floats, rng: Rng) -> Part:
        name = self._pick('clothes', rng)
        wearable = self._model.wearables['clothes'][name.split('/')[1]]
        tint = np.exp(rng.normal(0, 0.3)) * np.ones(3)
        saturation = 1.0
        if rng.uniform() < 0.65:  # dyed
            tint = rng.uniform(0, 1, 3) ** 1.5 / (self._albedo[name] + 0.05) * 0.5
            saturation = rng.uniform(0, 0.5)
        material = Material(
            name, tuple(tint), saturation=saturation, two_sided=True, gloss=0.02
        )
        return self._part(wearable, to_head(wearable.fit(body)), material)

    def hair(
        self, to_head, body: Floats, male: float, colour: NDArray[np.float64], rng: Rng
    ) -> Part:
        """Hair of a colour that suits; `to_head` maps the body's frame to the head frame."""
        names = self._names['hair']
        long = rng.uniform() < (0.75 if male < 0.5 else 0.15)
        fitting = [name for name in names if (name in _LONG_HAIR) == long] or names
        name = fitting[rng.integers(len(fitting))]
        wearable = self._model.wearables['hair'][name]
        xyz = to_head(wearable.fit(body))
        if rng.uniform() < 0.6:  # fuller
            centre = np.float32([-0.09, 0, 0.0])
            xyz = centre + (xyz - centre) * rng.uniform(1, (1.1, 1.12, 1.06)).astype(np.float32)
        if rng.uniform() < 0.5:  # parted on the other side
            xyz = xyz * np.float32([1, -1, 1])
        texture = f'hair/{name}'
        tint = colour / (self._albedo[texture].mean() + 1e-3)
        material = Material(
            texture,
            tuple(tint),
            saturation=0.0,
            two_sided=True,
            darker=rng.uniform(-0.5, 0.0),
            gloss=rng.uniform(0, 0.1),
            shininess=rng.uniform(6, 30),
        )
        return self._part(wearable, xyz, material, Layer.COVER)

    def _pick(self, kind: str, rng: Rng) -> str:
        names = self._names[kind]
        return f'{kind}/{names[rng.integers(len(names))]}'

    def _hand_mesh(self) -> Mesh:
        """The hand of the mean body about its own centre, m."""
        model = self._model
        used, index = np.unique(model.hand, return_inverse=True)
        points = self.reference[used]
        corners = index.reshape(-1, 3)
        topology = Topology(corners, corners, np.zeros((len(used), 2), np.float32) + 0.4, len(used))
        return topology.mesh(points - points.mean(0), np.zeros((len(used), 3), np.float32))
