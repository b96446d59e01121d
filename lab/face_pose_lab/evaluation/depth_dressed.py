# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of dressed heads with their true depth, by the renderer of the training data.

The people, hair and places are those of its test split. There are glasses, hats, hands and things
in front of faces; pictures have blur, noise and compression.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation.depth_scenes import Scene, way, write_scene, write_truth
from face_pose_lab.synthetic.sampling import HeadRange, attitude
from face_pose_lab.training.heads.develop import develop
from face_pose_lab.training.heads.light import panorama_level
from face_pose_lab.training.heads.mesh import Layer
from face_pose_lab.training.heads.renderer import Loaded
from face_pose_lab.training.heads.scenes import random_lens
from face_pose_lab.training.heads.staging import Lens, Light, Pose
from face_pose_lab.training.heads.studio import Studio
from face_pose_lab.training.heads.views import (
    HEAD_HEIGHT_M,
    facing_pose,
    project,
    random_torso,
    transformed,
)
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints import semantic

Array = NDArray[np.float64]

_MARGIN_PX = 4  # between a face and the border
_NOTHING_M = 100.0  # depths beyond it are of nothing
_MOVING = 10**6  # first identity of the people who move
_EYES = 'left', 'right'


def render_dressed(
    studio: Studio, folder: Path, limits: HeadRange, heads: int, people: int
) -> None:
    """Write single heads and moving people, who keep what they wear, as `depth_scenes.render`."""
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
    write_truth(folder, scenes)


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
                poses = way(*poses)
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
        return write_scene(folder, name, person, rgb, z, T_cam_head, camera, box, self._pupils_mm)

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
