# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random people of ICT-FaceKit, with painted skins and hair of MakeHuman."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator

from face_pose_lab.synthetic.appearance import Appearance, People
from face_pose_lab.synthetic.body import AXIS_X, Body, HairStyle
from face_pose_lab.synthetic.body import Material as Surface
from face_pose_lab.synthetic.ict_facekit import IDENTITY_MODES, IctFaceKit, eye_centres
from face_pose_lab.synthetic.sampling import random_expression
from face_pose_lab.synthetic.shading import to_srgb
from face_pose_lab.training.heads import paint, wear
from face_pose_lab.training.heads.assets import Split
from face_pose_lab.training.heads.landmarks import keypoints_on
from face_pose_lab.training.heads.mesh import (
    Floats,
    Layer,
    Material,
    Part,
    Person,
    Topology,
    rgb,
    unit,
    vector,
)
from face_pose_lab.training.heads.renderer import Renderer
from face_pose_lab.training.heads.surface import SurfacePoints
from face_pose_lab.training.heads.wardrobe import STRANDS, Wardrobe
from face_pose_ros.weights import load_weights

Rng = np.random.Generator
FAMILY = 1
# Vertices of the left ear's landmarks, in the order of keypoints.Ear.
EARS = (6739, 6844, 6857, 7125)
_SKINS = {Split.TRAIN: range(48), Split.TEST: range(1000, 1016)}  # seeds of painted skins
# The skin unrolled round the head's vertical axis: heights [m], height and width [px].
_Z, _SHAPE = (-0.26, 0.15), (416, 624)
_EYE_SPAN_M, _EYE_PX = 0.03, 128
_BALD, _SHORT = HairStyle(0.0, 0.0, 0.0), HairStyle(0.01, 0.0, 0.0)
_TORSO_END_M = -0.5
_IDENTITY_LIMIT = 2.5  # standard deviations: beyond it the linear model bends faces
_OPEN_MOUTH = 0.04  # of jawOpen, from which the inside of the mouth is drawn


class IctPeople:
    """Makes people."""

    def __init__(
        self, facekit: IctFaceKit, wardrobe: Wardrobe, split: Split, renderer: Renderer
    ) -> None:
        """Prepare the meshes; skins are painted when they are first needed.

        Args:
            facekit: The morphable head.
            wardrobe: What these people wear.
            split: Which skins they have.
            renderer: Gets the textures.
        """
        self._facekit, self._wardrobe, self._renderer = facekit, wardrobe, renderer
        self._painted: dict[str, Appearance] = {}
        self._skins = list(_SKINS[split])
        self._body = Body(facekit)
        self._people = People(facekit)
        weights = load_weights('face_model')
        face = SurfacePoints(
            weights['ict_vertices'].astype(np.int64), weights['ict_barycentric'].astype(np.float64)
        )
        triangles, material = self._body.triangles.numpy(), self._body.material.numpy()
        reference = self._body.xyz.numpy()
        first_torso = len(facekit.neutral)
        is_skin = (material == Surface.SKIN) & (triangles < first_torso).all(1)
        high = (reference[triangles, 2] > _TORSO_END_M).all(1)
        is_hair = material == Surface.HAIR
        close = self._body.drawn(_SHORT).numpy()
        neutral = facekit.neutral
        self._keypoints = keypoints_on(neutral, triangles[is_skin], face, np.array(EARS))
        self._unrolled = np.arctan2(reference[:, 1], reference[:, 0] - AXIS_X) / (2 * np.pi) + 0.5
        self._topology = {
            'skin': self._unroll(triangles[is_skin]),
            'eyes': self._eye_topology(triangles[material == Surface.EYE]),
            'mouth': self._plain(triangles[material == Surface.MOUTH]),
            'teeth': self._plain(triangles[material == Surface.TEETH]),
            'torso': self._plain(triangles[(material == Surface.CLOTH) & high]),
            'scalp': self._plain(triangles[is_hair & close]),
            'long': self._plain(triangles[is_hair & ~close]),
        }
        shares = [_neck_share(reference), paint.beard(reference), paint.scalp(reference)]
        self._shares = np.stack(shares, 1).astype(np.float32)
        self._on_skin = reference[self._topology['skin'].point]
        self._hair_points = wardrobe.model.keypoints.of(wardrobe.reference)
        self._places = self._texel_places()

    def person(self, identity: int, rng: Rng) -> Person:
        """A person with an expression, appearance and things worn."""
        facekit = self._facekit
        coefficients = rng.normal(size=IDENTITY_MODES).clip(-_IDENTITY_LIMIT, _IDENTITY_LIMIT)
        expression = random_expression(facekit.expression_names, rng)
        head = facekit.vertices(coefficients[None], expression[None])[0]
        skin_name, appearance = self._skin(int(rng.integers(len(self._skins))))
        hair = wear.hair_colour(rng) if rng.uniform() < 0.5 else appearance.hair.double().numpy()
        style = self._wardrobe.headdress_style(rng)
        own_hair = _hair_style(rng) if rng.uniform() < 0.5 else _BALD
        xyz = self._body.assemble(torch.from_numpy(head), own_hair).numpy()
        tone = float(np.exp(rng.normal(0, 0.15)))
        skin = Material(
            skin_name,
            (tone, tone * np.exp(rng.normal(0, 0.03)), tone * np.exp(rng.normal(0, 0.05))),
            darker=rng.uniform(-0.15, 0.2),
            gloss=rng.uniform(0, 0.12),
            shininess=rng.uniform(8, 40),
            beard=rng.uniform(0.2, 1) if rng.uniform() < 0.2 else 0.0,
            scalp=0.0 if style in ('bald', 'hood') else rng.uniform(0.5, 1),
            hair=rgb(hair),
        )
        mesh = self._topology['skin'].mesh(xyz, self._shares)
        cloth = Material(tint=wear.cloth_colour(rng), gloss=0.02, grain=rng.uniform(0, 0.2))
        parts = [
            Part(mesh, skin),
            self._part('eyes', xyz, Material(f'{skin_name}/eyes', gloss=0.4, shininess=60.0)),
            self._part('torso', xyz, cloth, Layer.BODY),
        ]
        if expression[facekit.expression_names.index('jawOpen')] > _OPEN_MOUTH:
            parts.append(self._part('mouth', xyz, Material(tint=(0.3, 0.07, 0.07), gloss=0.2)))
            parts.append(self._part('teeth', xyz, Material(tint=(0.62, 0.56, 0.45), gloss=0.2)))
        points = self._keypoints.of(xyz)

        def modelled() -> list[Part]:
            if own_hair.thickness > 0:
                return self._own_hair(xyz, own_hair, hair, rng)
            return [self._hair(points, hair, rng)]

        parts += self._wardrobe.headdress(style, mesh, self._on_skin, modelled, hair, rng)
        normals = self._keypoints.of(self._topology['skin'].point_normals(xyz))
        parts += self._wardrobe.accessories(mesh, self._on_skin, points, skin, rng)
        albedo = tone * appearance.skin.double().numpy()
        return Person(
            tuple(parts),
            points,
            unit(normals),
            rgb(albedo),
            FAMILY,
            identity,
        )

    def _part(
        self, name: str, xyz: Floats, material: Material, layer: Layer = Layer.DETAIL
    ) -> Part:
        return Part(self._topology[name].mesh(xyz, self._shares), material, layer)

    def _own_hair(self, xyz: Floats, style: HairStyle, colour: NDArray, rng: Rng) -> list[Part]:
        """Hair that is grown on this head."""
        shade = rgb(colour / 0.3)  # the strands' mean albedo
        material = Material(
            STRANDS, shade, two_sided=True, gloss=rng.uniform(0, 0.1), shininess=rng.uniform(6, 30)
        )
        pieces = ['scalp', 'long'] if style.length > 0 else ['scalp']
        return [self._part(name, xyz, material, Layer.COVER) for name in pieces]

    def _hair(self, points: NDArray, colour: NDArray, rng: Rng) -> Part:
        """MakeHuman's hair, carried over by the affine map of the keypoints."""
        source = np.c_[self._hair_points, np.ones(len(points))]
        affine = np.linalg.lstsq(source, points, rcond=None)[0].astype(np.float32)
        model = self._wardrobe.model
        frame = model.frame(model.reference)

        def to_head(xyz: Floats) -> Floats:
            moved = frame.apply(xyz) @ affine[:3] + affine[3]
            centre = vector(-0.09, 0, 0.0)
            return np.asarray(centre + (moved - centre) * np.float32(1.03))

        return self._wardrobe.hair(to_head, model.reference, float(rng.uniform()), colour, rng)

    def _skin(self, number: int) -> tuple[str, Appearance]:
        """Name of a painted skin's texture, and the appearance that it shows."""
        seed = self._skins[number]
        name = f'painted/{seed}'
        if name not in self._painted:
            appearance = self._people.person(np.random.default_rng(seed))
            appearance = replace(appearance, scalp=0.0, collar_m=-1.0)
            self._painted[name] = appearance
            place = torch.from_numpy(self._places)
            above = torch.full_like(place[:, 0], -0.05)
            kind = torch.full((len(place),), int(Surface.SKIN))
            self._add(name, self._people.albedo(appearance, kind, place, above), _SHAPE)
            eye = self._eye_places()
            kind = torch.full((len(eye),), int(Surface.EYE))
            albedo = self._people.albedo(appearance, kind, eye, torch.zeros_like(eye[:, 0]))
            self._add(f'{name}/eyes', albedo, (_EYE_PX, _EYE_PX))
        return name, self._painted[name]

    def _add(self, name: str, albedo: torch.Tensor, shape: tuple[int, int]) -> None:
        srgb = (255 * to_srgb(albedo) + 0.5).to(torch.uint8).numpy().reshape(*shape, 3)
        opaque = np.full((*shape, 1), 255, np.uint8)
        self._renderer.add_texture(name, np.concatenate([srgb, opaque], 2))

    def _texel_places(self) -> Floats:
        """(texels, 3) m, places on the reference of the unrolled skin; row 0 is the lowest."""
        height, width = _SHAPE
        xyz = self._body.xyz.numpy()[np.unique(self._topology['skin'].point)]
        angle = np.arctan2(xyz[:, 1], xyz[:, 0] - AXIS_X)
        radius = np.hypot(xyz[:, 1], xyz[:, 0] - AXIS_X)
        # The seam lies at the back: three turns make the middle one whole.
        turns = [np.stack([angle + 2 * np.pi * k, xyz[:, 2] / 0.08], 1) for k in (-1, 0, 1)]
        coarse = LinearNDInterpolator(np.concatenate(turns), np.tile(radius, 3), 0.09)
        z = _Z[0] + (np.arange(height) + 0.5) / height * (_Z[1] - _Z[0])
        turn = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
        z, turn = (g.ravel() for g in np.meshgrid(z, turn, indexing='ij'))
        r = coarse(np.stack([turn, z / 0.08], 1))
        return np.stack([AXIS_X + r * np.cos(turn), r * np.sin(turn), z], 1).astype(np.float32)

    def _eye_places(self) -> torch.Tensor:
        """(texels, 3) m, places before the left eye of the reference."""
        centre = eye_centres(self._facekit.neutral[None])[0, 0]
        line = ((np.arange(_EYE_PX) + 0.5) / _EYE_PX - 0.5) * _EYE_SPAN_M
        z, y = (g.ravel() for g in np.meshgrid(line, line, indexing='ij'))
        place = centre + np.stack([np.full_like(y, 0.012), y, z], 1)
        return torch.from_numpy(place.astype(np.float32))

    def _unroll(self, triangles: NDArray[np.int64]) -> Topology:
        u, z = self._unrolled, self._body.xyz.numpy()[:, 2]
        v = (z - _Z[0]) / (_Z[1] - _Z[0])
        count = len(u)
        uv = np.stack([np.r_[u, u + 1], np.r_[v, v]], 1)
        corners = u[triangles]
        # Triangles across the seam at the back go on beyond u = 1.
        beyond = (corners.max(1, keepdims=True) - corners) > 0.5
        return Topology(triangles, triangles + count * beyond, uv, count)

    def _eye_topology(self, triangles: NDArray[np.int64]) -> Topology:
        reference = self._body.xyz.numpy()
        left, right = eye_centres(self._facekit.neutral[None])[0]
        centre = np.where(reference[:, 1:2] > 0, left, right)
        uv = (reference - centre)[:, 1:] / _EYE_SPAN_M + 0.5
        return Topology(triangles, triangles, uv.astype(np.float32), len(reference))

    def _plain(self, triangles: NDArray[np.int64]) -> Topology:
        xyz = self._body.xyz.numpy()
        return Topology(triangles, triangles, (4 * xyz[:, 1:]).astype(np.float32), len(xyz))


def _hair_style(rng: Rng) -> HairStyle:
    kind = rng.choice(['short', 'full', 'long'], p=[0.45, 0.25, 0.3])
    fringe = rng.choice([0.0, rng.uniform(0, 0.025)], p=[0.6, 0.4])
    if kind == 'short':
        return HairStyle(rng.uniform(0.003, 0.015), fringe, 0.0)
    if kind == 'full':
        return HairStyle(rng.uniform(0.015, 0.05), fringe, 0.0)
    return HairStyle(
        rng.uniform(0.008, 0.025), fringe, rng.uniform(0.05, 0.3), rng.uniform(60, 95)
    )


def _neck_share(xyz: Floats) -> Floats:
    """Share of the head (V,) in the motion of the neck at places (V, 3)."""
    # The neck bends between the collar and the jaw; the axis rises towards the back.
    height = xyz[:, 2] + 0.35 * (xyz[:, 0] + 0.1)
    t = np.clip((height + 0.215) / 0.1, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
