# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of scenes for a detector: 0 to 6 heads of all sizes, through distorting lenses."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.synthetic.sampling import view_angles_deg
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.training.heads.crops import crop_camera
from face_pose_lab.training.heads.develop import coarser, develop
from face_pose_lab.training.heads.light import panorama_level
from face_pose_lab.training.heads.mesh import Layer
from face_pose_lab.training.heads.renderer import Loaded
from face_pose_lab.training.heads.staging import Lens, Pose
from face_pose_lab.training.heads.studio import Studio
from face_pose_lab.training.heads.views import (
    HEAD_CENTRE,
    HEAD_HEIGHT_M,
    at_pixel,
    clear_of_camera,
    facing_pose,
    look,
    project,
    random_attitude,
    random_torso,
    transformed,
)
from face_pose_ros.keypoints import semantic

Array = NDArray[np.float64]
Rng = np.random.Generator

RANGES: dict[str, Any] = {
    'sizes_px': [[320, 240], [480, 360], [640, 480]],
    'heads_shares': [0.12, 0.32, 0.2, 0.13, 0.1, 0.08, 0.05],
    'head_size_px': [16, 400],
    'distance_m': [0.3, 8.0],
    'focal_per_width': [0.45, 1.3],
    'distorted_share': 0.5,
    'distractors_mean': 0.6,
}
_TRIES = 30
_APART = 0.55  # distance of two heads, of the sum of their sizes, below which one is moved
_LOOK_PX = 96  # side of the picture in which a head's own visibility is found
_BEFORE_M = 0.03  # a person nearer by this much hides a keypoint
_SHADOW_FROM_PX = 40
_PEOPLE_PER_SCENE = 16  # identities reserved for each picture


@dataclass(frozen=True)
class Placed:
    """A person or a thing in a scene."""

    loaded: Loaded
    pose: Pose
    size_px: float
    centre_uv: Array  # (2,)


def random_lens(size: tuple[int, int], rng: Rng) -> Lens:
    """A calibrated camera, half of them with visible distortion."""
    width, height = size
    focal = width * np.exp(rng.uniform(*np.log(RANGES['focal_per_width'])))
    fx, fy = focal * np.exp(rng.normal(0, 0.005, 2))
    cx, cy = 0.5 * np.array([width - 1, height - 1]) + rng.normal(0, 0.015, 2) * width
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    dist = np.zeros(5)
    if rng.uniform() < RANGES['distorted_share']:
        k1 = rng.uniform(-0.32, 0.12)
        dist = np.array([k1, -0.35 * k1 * rng.uniform(0.5, 1.2), *rng.normal(0, 0.0007, 2), 0.0])
    camera = Camera.from_K(K, width, height, tuple(dist))
    return Lens(K, width, height, tuple(dist), min(float(camera.range_max), 4.0))


def render_scene(
    studio: Studio, number: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], dict[str, NDArray], list[dict[str, NDArray]]]:
    """Picture (H, W, 3) number `number`, its camera's labels, and those of each head."""
    rng = studio.rng(2, number)
    lens = random_lens(size, rng)
    heads = int(rng.choice(len(RANGES['heads_shares']), p=RANGES['heads_shares']))
    tilt = rng.uniform(-90, 90) if rng.uniform() < 0.1 else rng.normal(0, 8)
    with contextlib.ExitStack() as stack:
        placed: list[Placed] = []
        for i in range(heads):
            person = studio.person(number * _PEOPLE_PER_SCENE + i)
            loaded = stack.enter_context(studio.renderer.load(person))
            placed.append(_place(loaded, lens, placed, tilt, rng))
        distractors = []
        for _ in range(rng.poisson(RANGES['distractors_mean'])):
            thing = stack.enter_context(studio.renderer.load(studio.distractor(rng)))
            distractors.append(_place(thing, lens, placed, tilt, rng))
        skins = [p.loaded.person.skin for p in placed] or [(0.3, 0.25, 0.2)]
        light = studio.environments.light(
            tuple(np.mean(skins, 0)), panorama_level(lens.K[0, 0]), rng
        )
        largest = max((p.size_px for p in placed), default=0.0)
        light = replace(light, shadows=light.shadows and largest > _SHADOW_FROM_PX)
        everything = [(p.loaded, p.pose) for p in (*placed, *distractors)]
        picture = studio.renderer.picture(everything, lens, light)
        faces = labels_of(studio, placed, distractors, lens)
    if rng.uniform() < 0.25:
        picture = coarser(picture, int(rng.uniform(0.6, 1.0) * lens.width), rng)
    picture = develop(picture, 60.0, rng)
    return picture, {'K': lens.K, 'dist': np.array(lens.dist)}, faces


def _place(loaded: Loaded, lens: Lens, others: list[Placed], tilt_deg: float, rng: Rng) -> Placed:
    """Somewhere in the picture, of some size, rather not upon another head."""
    for _ in range(_TRIES):
        low, high = RANGES['head_size_px']
        size = float(np.exp(rng.uniform(np.log(low), np.log(min(high, 1.1 * lens.height)))))
        depth = HEAD_HEIGHT_M * lens.K[0, 0] / size
        near, far = RANGES['distance_m']
        depth = float(np.clip(depth, near, far))
        size = HEAD_HEIGHT_M * lens.K[0, 0] / depth
        uv = rng.uniform((0, 0), (lens.width - 1, lens.height - 1))
        gaps = [
            np.linalg.norm(uv - other.centre_uv) / (0.5 * (size + other.size_px))
            for other in others
        ]
        if min(gaps, default=9.0) > 2 * _APART:
            break
    xy = cv2.undistortPoints(uv[None, None], lens.K, np.array(lens.dist))[0, 0]
    ray = np.append(xy, 1.0)
    attitude = random_attitude(rng)
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    attitude = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ attitude
    T = facing_pose(attitude, ray, depth * float(np.linalg.norm(ray)))
    T = clear_of_camera(loaded.person, T)
    size = HEAD_HEIGHT_M * lens.K[0, 0] / T[2, 3]
    return Placed(loaded, Pose(T, random_torso(attitude, rng)), size, uv)


def labels_of(
    studio: Studio, placed: list[Placed], distractors: list[Placed], lens: Lens
) -> list[dict[str, NDArray]]:
    """Labels of each of the placed heads, which hide one another and are hidden by things."""
    everything = [*placed, *distractors]
    fronts = [
        studio.renderer.depth(p.loaded, p.pose, lens, set(Layer)) if len(everything) > 1 else None
        for p in everything
    ]
    return [
        _face(studio, item, [f for j, f in enumerate(fronts) if j != i and f is not None], lens)
        for i, item in enumerate(placed)
    ]


def _face(
    studio: Studio, item: Placed, others_z: list[NDArray[np.float32]], lens: Lens
) -> dict[str, NDArray]:
    """The labels of one head; `others_z` (H, W) are the depths of all others."""
    person, T = item.loaded.person, item.pose.T_cam_head
    xyz_cam = transformed(T, person.keypoints)
    uv = project(xyz_cam, lens)
    # The head alone, in a picture of its own: however small it is, or beyond the border.
    T_look, focal = crop_camera(T, person.keypoints, _LOOK_PX, margin=1.15)
    middle = 0.5 * (_LOOK_PX - 1)
    K = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    alone = look(
        studio.renderer,
        item.loaded,
        replace(item.pose, T_cam_head=T_look),
        Lens(K, _LOOK_PX, _LOOK_PX),
    )
    inside = ((uv > -0.5) & (uv < (lens.width - 0.5, lens.height - 0.5))).all(1)
    visible = alone.visible & inside
    for z in others_z:
        visible &= xyz_cam[:, 2] < at_pixel(z, uv) + _BEFORE_M
    face = uv[semantic.IS_FACE]
    centre = transformed(T, np.array(HEAD_CENTRE))
    return {
        'T_cam_head': T,
        'box_xyxy': np.concatenate([face.min(0), face.max(0)]).astype(np.float32),
        'visible_fraction': np.array(
            visible.sum() / max(alone.visible_if_bare.sum(), 1), np.float32
        ),
        'uv': uv.astype(np.float32),
        'xyz_head': person.keypoints.astype(np.float32),
        'visible': visible,
        'covered': alone.covered & inside,
        'head_size_px': np.array(HEAD_HEIGHT_M * lens.K[0, 0] / centre[2], np.float32),
        'view_deg': view_angles_deg(T).astype(np.float32),
        'family': np.array(person.family, np.uint8),
        'identity': np.array(person.identity, np.int64),
    }


def render_range(
    studio: Studio, rows: range, shard: int
) -> tuple[NDArray[np.uint8], dict[str, NDArray]]:
    """Pictures number `rows`, all of the shard's size (N, H, W, 3), and their labels.

    The labels of faces have a row per face; image_index tells the picture within the shard.
    """
    sizes = RANGES['sizes_px']
    width, height = sizes[int(studio.rng(3, shard).integers(len(sizes)))]
    pictures, cameras, faces, index = [], [], [], []
    for i, row in enumerate(rows):
        picture, camera, of_picture = render_scene(studio, row, (width, height))
        pictures.append(picture)
        cameras.append(camera)
        faces += of_picture
        index += [i] * len(of_picture)
    labels = {name: np.stack([c[name] for c in cameras]) for name in ('K', 'dist')}
    labels['image_index'] = np.array(index, np.int64)
    empty = _empty_face()
    for name, none in empty.items():
        labels[name] = np.stack([f[name] for f in faces]) if faces else none
    return np.stack(pictures), labels


def _empty_face() -> dict[str, NDArray]:
    """Tables without a row."""
    K = len(semantic.NAMES)
    return {
        'T_cam_head': np.zeros((0, 4, 4)),
        'box_xyxy': np.zeros((0, 4), np.float32),
        'visible_fraction': np.zeros(0, np.float32),
        'uv': np.zeros((0, K, 2), np.float32),
        'xyz_head': np.zeros((0, K, 3), np.float32),
        'visible': np.zeros((0, K), bool),
        'covered': np.zeros((0, K), bool),
        'head_size_px': np.zeros(0, np.float32),
        'view_deg': np.zeros((0, 3), np.float32),
        'family': np.zeros(0, np.uint8),
        'identity': np.zeros(0, np.int64),
    }
