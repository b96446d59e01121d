# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of heads with their true depth, and heads of ICT-FaceKit for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.synthetic.ict_facekit import FACE_VERTICES, IctFaceKit, eye_centres
from face_pose_lab.synthetic.sampling import HeadRange, face_bounds, random_head
from face_pose_lab.synthetic.scene import Head, HeadRenderer
from face_pose_ros.geometry.camera import Camera

Array = NDArray[np.float64]

SEQUENCE = 9  # images of a head that moves
_TRUTH = 'truth.json'
_STEP_MM = 0.1  # of the true depth in its file


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
    write_truth(folder, scenes)


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
    return write_scene(folder, name, person, rgb, z, head.T_cam_head, camera, box, pupils_mm)


def write_scene(
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
        heads = [replace(begin, T_cam_head=T) for T in way(begin.T_cam_head, other)]
        size = begin.camera.width, begin.camera.height
        boxes = [face_bounds(face, head) for head in heads]
        if all(b is not None and (b[:2] > 0).all() and (b[2:] < size).all() for b in boxes):
            yield from heads
            return


def way(T_first: Array, T_last: Array) -> list[Array]:
    """SEQUENCE poses (4, 4) at even steps from one to another."""
    turns = Slerp([0, 1], Rotation.from_matrix([T_first[:3, :3], T_last[:3, :3]]))
    poses = []
    for way in np.linspace(0, 1, SEQUENCE):
        T = np.eye(4)
        T[:3, :3] = turns(way).as_matrix()
        T[:3, 3] = (1 - way) * T_first[:3, 3] + way * T_last[:3, 3]
        poses.append(T)
    return poses


def write_truth(folder: Path, scenes: list[Scene]) -> None:
    """Write what `read_scenes` reads; last, so that its presence tells that all is there."""
    (folder / _TRUTH).write_text(json.dumps([asdict(scene) for scene in scenes]))


def read_scenes(folder: Path) -> list[Scene]:
    """All scenes of a folder.

    Raises:
        DataError: `render` has not finished there.
    """
    try:
        return [Scene(**scene) for scene in json.loads((folder / _TRUTH).read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f'{folder}: not a folder of `render` ({error})') from error
