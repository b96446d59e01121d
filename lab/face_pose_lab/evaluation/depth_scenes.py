# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of heads with their true depth: of ICT-FaceKit, or dressed as in the training data.

Dressed heads have hair, glasses, hats, hands and things in front of the face, and pictures with
blur, noise and compression, by the renderer, people and places of the training's test split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.synthetic.ict_facekit import FACE_VERTICES, IctFaceKit, eye_centres
from face_pose_lab.synthetic.sampling import HeadRange, attitude, face_bounds, random_head
from face_pose_lab.synthetic.scene import Head, HeadRenderer
from face_pose_lab.training.heads.develop import develop
from face_pose_lab.training.heads.light import panorama_level
from face_pose_lab.training.heads.mesh import Layer
from face_pose_lab.training.heads.scenes import random_lens
from face_pose_lab.training.heads.staging import Lens, Light, Pose
from face_pose_lab.training.heads.views import (
    HEAD_HEIGHT_M,
    facing_pose,
    project,
    random_torso,
    transformed,
)
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints import semantic

if TYPE_CHECKING:
    from face_pose_lab.training.heads.renderer import Loaded
    from face_pose_lab.training.heads.studio import Studio

Array = NDArray[np.float64]

SEQUENCE = 9  # images of a head that moves
_TRUTH = 'truth.json'
_STEP_MM = 0.1  # of the true depth in its file
_MARGIN_PX = 4  # between a face and the border
_NOTHING_M = 100.0  # depths beyond it are of nothing
_MOVING = 10**6  # first identity of the dressed people who move
_EYES = 'left', 'right'


@dataclass(frozen=True)
class Scene:
    """One picture of one head."""

    name: str
    person: int  # of a sequence; -1: a single head
    T_cam_head: list[list[float]]  # (4, 4) m
    camera: dict
    box_xyxy: list[float]  # px, of the face
    pupils_mm: float

    def read(self, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Picture (H, W, 3) RGB, and true z (H, W) [m].

        Raises:
            DataError: A file is missing or damaged.
        """
        files = [folder / f'{self.name}.png', folder / f'{self.name}_z.png']
        bgr, z = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files)
        if bgr is None or z is None:
            raise DataError(f'{files[0]} or {files[1].name} can not be read')
        rgb = np.asarray(bgr[..., ::-1], dtype=np.uint8).copy()
        return rgb, (1e-3 * _STEP_MM * z).astype(np.float32)


def render(
    facekit: IctFaceKit,
    hdri: Path | None,
    folder: Path,
    limits: HeadRange,
    heads: int,
    people: int,
    seed: int,
) -> None:
    """Write single heads, and people who move from one place to another; see the module."""
    folder.mkdir(parents=True, exist_ok=True)
    renderer, scenes = HeadRenderer(facekit, hdri), []
    for i in tqdm(range(heads), desc='heads', disable=None):
        rng = np.random.default_rng([seed, i])
        head = random_head(facekit, limits, rng)
        scenes.append(_write_head(f'{i:05d}', -1, head, renderer, rng, folder))
    for person in tqdm(range(people), desc='people', disable=None):
        rng = np.random.default_rng([seed, person, 1])
        for step, head in enumerate(_moving_head(facekit, limits, rng)):
            appearance = np.random.default_rng([seed, person, 2])  # the same in all of a person's
            name = f'p{person:03d}_{step:02d}'
            scenes.append(_write_head(name, person, head, renderer, appearance, folder))
    (folder / _TRUTH).write_text(json.dumps([asdict(scene) for scene in scenes]))


def _write_head(
    name: str,
    person: int,
    head: Head,
    renderer: HeadRenderer,
    rng: np.random.Generator,
    folder: Path,
) -> Scene:
    rgb, z = renderer.render_with_depth(head, rng)
    vertices = renderer.facekit.vertices(head.identity[None], head.expression[None])[0]
    box = face_bounds(vertices[:FACE_VERTICES], head)
    assert box is not None
    neutral = renderer.facekit.vertices(head.identity[None], 0 * head.expression[None])
    left, right = eye_centres(neutral)[0]
    pupils_mm = 1e3 * float(np.linalg.norm(left - right))
    camera = head.camera.runtime()
    return _write(folder, name, person, rgb, z, head.T_cam_head, camera, box, pupils_mm)


def _write(
    folder: Path,
    name: str,
    person: int,
    rgb: NDArray[np.uint8],
    z: NDArray[np.float32],
    T_cam_head: Array,
    camera: Camera,
    box_xyxy: Array,
    pupils_mm: float,
) -> Scene:
    """Write a picture and its true z [m]."""
    cv2.imwrite(str(folder / f'{name}.png'), rgb[..., ::-1])
    cv2.imwrite(str(folder / f'{name}_z.png'), np.round(1e3 / _STEP_MM * z).astype(np.uint16))
    return Scene(
        name,
        person,
        T_cam_head.tolist(),
        {
            'K': camera.K.tolist(),
            'width': camera.width,
            'height': camera.height,
            'dist': camera.dist.tolist(),
            'distortion_model': camera.distortion_model,
        },
        box_xyxy.tolist(),
        pupils_mm,
    )


def _moving_head(
    facekit: IctFaceKit, limits: HeadRange, rng: np.random.Generator
) -> Iterator[Head]:
    """One person on the way from a pose to another, at even steps, through one camera."""
    begin = random_head(facekit, limits, rng)
    face = facekit.vertices(begin.identity[None], begin.expression[None])[0, :FACE_VERTICES]
    while True:
        other = random_head(facekit, limits, rng).T_cam_head
        heads = [replace(begin, T_cam_head=T) for T in _way(begin.T_cam_head, other)]
        size = begin.camera.width, begin.camera.height
        boxes = [face_bounds(face, head) for head in heads]
        if all(b is not None and (b[:2] > 0).all() and (b[2:] < size).all() for b in boxes):
            yield from heads
            return


def _way(T_first: Array, T_last: Array) -> list[Array]:
    """SEQUENCE poses (4, 4) at even steps from one to another."""
    turns = Slerp([0, 1], Rotation.from_matrix([T_first[:3, :3], T_last[:3, :3]]))
    poses = []
    for way in np.linspace(0, 1, SEQUENCE):
        T = np.eye(4)
        T[:3, :3] = turns(way).as_matrix()
        T[:3, 3] = (1 - way) * T_first[:3, 3] + way * T_last[:3, 3]
        poses.append(T)
    return poses


def render_dressed(
    studio: Studio, folder: Path, limits: HeadRange, heads: int, people: int
) -> None:
    """The same of the studio's people; those who move keep all that they wear."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for i in tqdm(range(heads), desc='heads', disable=None):
        with studio.renderer.load(studio.person(i)) as loaded:
            shoot = _Shoot(studio, loaded, limits, studio.rng(5, i))
            T = shoot.poses(1)[0]
            scenes.append(shoot.write(folder, f'{i:05d}', -1, T))
    for person in tqdm(range(people), desc='people', disable=None):
        with studio.renderer.load(studio.person(_MOVING + person)) as loaded:
            shoot = _Shoot(studio, loaded, limits, studio.rng(6, person))
            for step, T in enumerate(shoot.poses(2)):
                scenes.append(shoot.write(folder, f'p{person:03d}_{step:02d}', person, T))
    (folder / _TRUTH).write_text(json.dumps([asdict(scene) for scene in scenes]))


class _Shoot:
    """A dressed person before one camera, in one light."""

    def __init__(
        self, studio: Studio, loaded: Loaded, limits: HeadRange, rng: np.random.Generator
    ) -> None:
        self._studio, self._loaded, self._limits, self._rng = studio, loaded, limits, rng
        person = loaded.person
        self._lens: Lens = random_lens((limits.width, limits.height), rng)
        level = panorama_level(self._lens.K[0, 0])
        self._light: Light = studio.environments.light(person.skin, level, rng)
        self._torso = random_torso(attitude(0, 0, 0), rng)
        self._xyz_face = person.keypoints[semantic.IS_FACE]
        self._pupils_mm = 1e3 * float(np.linalg.norm(np.subtract(*map(self._eye, _EYES))))

    def poses(self, ends: int) -> list[Array]:
        """One random pose (4, 4), or those between two; the face lies in all pictures."""
        while True:
            poses = [self._random_pose() for _ in range(ends)]
            if ends == 2:
                poses = _way(*poses)
            if all(self._is_inside(self._box(T)) for T in poses):
                return poses

    def write(self, folder: Path, name: str, person: int, T_cam_head: Array) -> Scene:
        """Draw and write a picture."""
        renderer, lens, pose = self._studio.renderer, self._lens, Pose(T_cam_head, self._torso)
        rgb = renderer.picture([(self._loaded, pose)], lens, self._light)
        size_px = HEAD_HEIGHT_M * lens.K[0, 0] / T_cam_head[2, 3]
        rgb = develop(rgb, size_px, self._rng)
        z = renderer.depth(self._loaded, pose, lens, set(Layer))
        z = np.where(z < _NOTHING_M, z, np.float32(0))
        camera = Camera.from_K(lens.K, lens.width, lens.height, lens.dist)
        box = self._box(T_cam_head)
        return _write(folder, name, person, rgb, z, T_cam_head, camera, box, self._pupils_mm)

    def _eye(self, side: str) -> Array:
        corners = [semantic.NAMES.index(f'eye_{which}_{side}') for which in ('outer', 'inner')]
        return np.asarray(self._loaded.person.keypoints[corners].mean(0))

    def _random_pose(self) -> Array:
        limits, lens, rng = self._limits, self._lens, self._rng
        uv = rng.uniform((0, 0), (lens.width - 1, lens.height - 1))
        xy = cv2.undistortPoints(uv[None, None], lens.K, np.array(lens.dist))[0, 0]
        angles = rng.uniform(-1, 1, 3) * (limits.roll_deg, limits.yaw_deg, limits.pitch_deg)
        distance = float(np.exp(rng.uniform(*np.log(limits.distance_m))))
        return facing_pose(attitude(*angles), np.append(xy, 1.0), distance)

    def _box(self, T_cam_head: Array) -> Array:
        uv = project(transformed(T_cam_head, self._xyz_face), self._lens)
        return np.concatenate([uv.min(0), uv.max(0)])

    def _is_inside(self, box_xyxy: Array) -> bool:
        size = np.array([self._lens.width, self._lens.height])
        low, high = box_xyxy[:2], box_xyxy[2:]
        return bool((low > _MARGIN_PX).all() and (high < size - _MARGIN_PX).all())


def read_scenes(folder: Path) -> list[Scene]:
    """All scenes of a folder.

    Raises:
        DataError: `render` has not finished there.
    """
    try:
        return [Scene(**scene) for scene in json.loads((folder / _TRUTH).read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f'{folder}: not a folder of `render` ({error})') from error
