# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes of the virtual camera: it rotates, zooms and changes its lens in front of portraits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros.demo.depth_camera import depth_image, head_of
from face_pose_ros.samples import load_portraits
from face_pose_ros.virtual_camera import (
    LENSES,
    View,
    lens_camera,
    look_at,
    photo_camera,
    render_view,
)

WIDTH, HEIGHT = 640, 480  # px
RATE_HZ = 30.0
SCENE_S = 6.0
SWEEP_S = 2.0
PAUSE_S = 1.5  # duration of the pause between two portraits

# Centre of the face in each portrait [px], where the camera is aimed.
_AIM_UV = {'grace_hopper': (263, 232), 'astronaut': (226, 124)}


@dataclass(frozen=True)
class Shot:
    """One image of the virtual camera."""

    rgb: NDArray[np.uint8]  # (HEIGHT, WIDTH, 3)
    camera: Camera
    R_world_cam: NDArray[np.float64]  # (3, 3)
    z_mm: NDArray[np.uint16] | None = None  # (HEIGHT, WIDTH), if there is a depth camera


@dataclass(frozen=True)
class Scene:
    """One sweep of the camera over a portrait, forth and back; a pause has no portrait."""

    portrait: str
    shots: Sequence[Shot]
    frames: int
    # (4, 4) m; the identity without depth, when it is not known.
    T_world_head: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))

    def shot(self, frame: int) -> Shot:
        """The image at a frame of this scene."""
        turn = frame % (2 * len(self.shots))
        return self.shots[min(turn, 2 * len(self.shots) - 1 - turn)]


def make_scenes(with_depth: bool = False) -> list[Scene]:
    """Both portraits through every lens, with pauses; with depth images or without."""
    portraits, scenes = load_portraits(), []
    for portrait in _AIM_UV:
        for lens in tqdm(LENSES, desc=f'rendering {portrait}', disable=None):
            shots = _sweep(portraits[portrait], _AIM_UV[portrait], lens)
            frames, T_world_head = round(SCENE_S * RATE_HZ), np.eye(4)
            if with_depth:
                T_world_head = head_of(portrait)
                shots = [
                    replace(shot, z_mm=depth_image(portrait, shot, seed))
                    for seed, shot in enumerate(shots)
                ]
            scenes.append(Scene(portrait, shots, frames, T_world_head))
        grey = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
        pause = [replace(shot, rgb=grey, z_mm=None) for shot in shots[:1]]
        scenes.append(Scene('', pause, round(PAUSE_S * RATE_HZ)))
    return scenes


def _sweep(photo: NDArray[np.uint8], aim_uv: tuple[float, float], lens: str) -> list[Shot]:
    """Pan, tilt, roll and zoom from one end to the other, slow at both ends."""
    photo_cam = photo_camera(photo.shape[1], photo.shape[0])
    ray = photo_cam.unproject(aim_uv).rays
    views = []
    for phase in np.linspace(0, np.pi, round(SWEEP_S * RATE_HZ)):
        sweep = -np.cos(phase)
        angles = 14 * sweep, 8 * np.sin(2 * phase), 14 * np.sin(phase - 0.5)
        turn = Rotation.from_euler('YXZ', angles, degrees=True).as_matrix()
        f = 520 + 150 * sweep
        K = [f, 0, 0.5 * WIDTH + 21, 0, 1.02 * f, 0.5 * HEIGHT - 15, 0, 0, 1]
        views.append(View(look_at(ray) @ turn, lens_camera(K, WIDTH, HEIGHT, lens)))
    # Allocate what is kept before rendering: the large temporary buffers would otherwise fragment
    # the heap by gigabytes.
    pictures = np.empty((len(views), HEIGHT, WIDTH, 3), np.uint8)
    for rgb, view in zip(pictures, views, strict=True):
        rgb[:] = render_view(photo, photo_cam, view)
    return [Shot(rgb, v.camera, v.R_photo_cam) for rgb, v in zip(pictures, views, strict=True)]
