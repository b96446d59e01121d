# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of single heads as in the package's crops, with exact labels.

The camera is the virtual one of geometry/crops.py: a pinhole that points at the face, its
principal point at the image centre.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.synthetic.sampling import view_angles_deg
from face_pose_lab.training.heads.develop import coarser, develop, replicated_border
from face_pose_lab.training.heads.light import panorama_level
from face_pose_lab.training.heads.renderer import Loaded
from face_pose_lab.training.heads.staging import Lens, Pose
from face_pose_lab.training.heads.studio import Studio
from face_pose_lab.training.heads.views import (
    HEAD_CENTRE,
    HEAD_HEIGHT_M,
    clear_of_camera,
    facing_pose,
    look,
    random_attitude,
    random_torso,
    transformed,
)
from face_pose_ros.keypoints import semantic

Array = NDArray[np.float64]
Rng = np.random.Generator
VIEWS_PER_PERSON = 4
_NEIGHBOURS = 10**9  # first identity of people in the background

# Ranges, as in the manifest.
RANGES: dict[str, Any] = {
    'yaw_deg': 'uniform +-100 (85 %), else +-180',
    'pitch_deg': 'after yaw; normal 20, at most 60 (80 %), else uniform +-60',
    'roll_deg': 'normal 17 (67 %), else uniform +-90',
    'distance_m': [0.3, 8.0],
    'margin': 2.0,
    'log_scale_jitter': [-0.28, 0.25],
    'shift_jitter_sigma': 0.06,
    'neighbour_share': 0.08,
    'views_per_person': VIEWS_PER_PERSON,
}
# For trainings that move crops themselves, from pictures of 160 px.
STEADY: dict[str, Any] = {'log_scale_jitter': [-0.06, 0.06], 'shift_jitter_sigma': 0.03}


def crop_camera(
    T_cam_head: Array, xyz_head: Array, size_px: int, margin: float
) -> tuple[Array, float]:
    """The camera turned and zoomed to a bounding square: T_crop_head (4, 4) and focal [px].

    Args:
        T_cam_head: (4, 4) m.
        xyz_head: (P, 3) m, what the square bounds.
        size_px: Side of the crop.
        margin: Side of the crop over that of the square.
    """
    xyz_cam = transformed(T_cam_head, xyz_head)
    for _ in range(2):  # the bounding square moves a little as the camera turns
        xy = xyz_cam[:, :2] / xyz_cam[:, 2:]
        turn = _turn_to(np.append(0.5 * (xy.min(0) + xy.max(0)), 1.0))
        T_cam_head, xyz_cam = turn @ T_cam_head, xyz_cam @ turn[:3, :3].T
    xy = xyz_cam[:, :2] / xyz_cam[:, 2:]
    return T_cam_head, size_px / (margin * float((xy.max(0) - xy.min(0)).max()))


def jittered(T_crop_head: Array, focal_px: float, size_px: int, rng: Rng) -> tuple[Array, float]:
    """The crop's camera, zoomed and rotated a little."""
    focal_px *= float(np.exp(-rng.uniform(*RANGES['log_scale_jitter'])))
    shift = rng.normal(0, RANGES['shift_jitter_sigma'], 2) * size_px / focal_px
    return _turn_to(np.append(shift, 1.0)) @ T_crop_head, focal_px


def _turn_to(ray: Array) -> Array:
    """T_new_old (4, 4) of the smallest rotation of a camera that points it along the ray."""
    z = ray / np.linalg.norm(ray)
    axis = np.cross(z, (0, 0, 1.0))
    T = np.eye(4)
    sine = np.linalg.norm(axis)
    if sine > 0:
        T[:3, :3] = Rotation.from_rotvec(axis / sine * np.arctan2(sine, z[2])).as_matrix()
    return T


def render_crop(
    studio: Studio, loaded: Loaded, size_px: int, rng: Rng
) -> tuple[NDArray[np.uint8], dict[str, NDArray]]:
    """A picture (size, size, 3) uint8 RGB, and its labels."""
    person = loaded.person
    attitude = random_attitude(rng)
    distance = np.exp(rng.uniform(*np.log(RANGES['distance_m'])))
    T = clear_of_camera(person, facing_pose(attitude, np.array([0, 0, 1.0]), distance))
    face = person.keypoints[semantic.IS_FACE]
    T, focal = crop_camera(T, face, size_px, RANGES['margin'])
    T, focal = jittered(T, focal, size_px, rng)
    middle = 0.5 * (size_px - 1)
    K = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    lens = Lens(K, size_px, size_px)
    pose = Pose(T, random_torso(attitude, rng))
    light = studio.environments.light(person.skin, panorama_level(focal), rng)
    with contextlib.ExitStack() as stack:
        people = [(loaded, pose)]
        if rng.uniform() < RANGES['neighbour_share']:
            other = studio.person(_NEIGHBOURS + int(rng.integers(_NEIGHBOURS)))
            pose_other = _beside(T, focal, size_px, rng)
            people.append((stack.enter_context(studio.renderer.load(other)), pose_other))
        picture = studio.renderer.picture(people, lens, light)
    seen = look(studio.renderer, loaded, pose, lens)
    depth = transformed(T, np.array(HEAD_CENTRE))[2]
    size = HEAD_HEIGHT_M * focal / depth
    if rng.uniform() < 0.3:
        # The face as it was before the crop enlarged it.
        picture = coarser(picture, int(np.exp(rng.uniform(np.log(40), np.log(size_px)))), rng)
    picture = develop(picture, size, rng)
    if rng.uniform() < 0.1:
        picture = replicated_border(picture, rng)
    return picture, {
        'K_crop': K,
        'T_crop_head': T,
        'uv': seen.uv.astype(np.float32),
        'xyz_head': person.keypoints.astype(np.float32),
        'visible': seen.visible,
        'covered': seen.covered,
        'head_size_px': np.array(size, np.float32),
        'view_deg': view_angles_deg(T).astype(np.float32),
        'family': np.array(person.family, np.uint8),
        'identity': np.array(person.identity, np.int64),
    }


def _beside(T_crop_head: Array, focal_px: float, size_px: int, rng: Rng) -> Pose:
    """A person behind and beside the head, partly in the image."""
    depth = T_crop_head[2, 3] + rng.uniform(0.35, 3.0)
    half = 0.5 * size_px / focal_px
    angle = rng.choice([0, np.pi]) + rng.normal(0, 0.5)
    ray = np.array([*(half * rng.uniform(0.8, 1.3) * np.array([np.cos(angle), np.sin(angle)])), 1])
    attitude = random_attitude(rng)
    return Pose(facing_pose(attitude, ray, depth), random_torso(attitude, rng))


def render_range(
    studio: Studio, rows: range, size_px: int
) -> tuple[NDArray[np.uint8], dict[str, NDArray]]:
    """Pictures number `rows` of the studio's seed: (N, size, size, 3), and labels of N rows."""
    pictures, labels = [], []
    for identity in range(rows.start // VIEWS_PER_PERSON, -(-rows.stop // VIEWS_PER_PERSON)):
        first = identity * VIEWS_PER_PERSON
        with studio.renderer.load(studio.person(identity)) as loaded:
            for row in range(max(first, rows.start), min(first + VIEWS_PER_PERSON, rows.stop)):
                picture, label = render_crop(studio, loaded, size_px, studio.rng(1, row))
                pictures.append(picture)
                labels.append(label)
    return np.stack(pictures), {n: np.stack([each[n] for each in labels]) for n in labels[0]}
