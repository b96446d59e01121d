# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""A sheet of rendered people seen from all sides and at all rolls, each measured in one image.

    python lab/tools/all_sides.py --assets ASSETS --out docs/images/all_sides.jpg

People, panorama and packages are those of `showcase.py`, which renders and draws.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from face_pose_lab.synthetic.sampling import attitude
from face_pose_lab.training.heads.assets import Assets, MissingAssetError
from face_pose_lab.training.heads.staging import Lens, Pose
from face_pose_lab.training.heads.studio import Models, Studio
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from showcase import SEED, render, save

from face_pose_ros import Camera, FacePoseEstimator
from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.ros.drawing.overlay import draw_overlay

_SIDE_PX, _FOCAL_PX, _COLUMNS, _GAP_PX = 256, 500.0, 5, 4
_DISTANCE_M = 0.95
# Identity of the studio; yaw, pitch and roll of the head, yaw of the torso, roll of the camera.
_VIEWS_DEG = (
    (75, 0, 0, 0, 0, 0),
    (53, 45, 0, 5, 25, 0),
    (54, -75, 5, 0, -45, 0),
    (55, 95, 0, 0, 70, 0),
    (75, -105, -5, 0, -80, 0),
    (54, 15, -32, 0, 10, 0),
    (55, -25, 30, 10, -10, 0),
    (53, 30, 0, 0, 15, 90),
    (75, -20, 5, 0, -10, 180),
    (54, 50, -5, 10, 30, -125),
)


def main(args: Sequence[str] | None = None) -> None:
    """Render, measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--assets', type=Path, required=True, help='of lab/docs/rendering.md')
    parser.add_argument('--out', type=Path, required=True, help='.jpg or .png')
    options = parser.parse_args(args)
    centre = 0.5 * (_SIDE_PX - 1)
    K = np.array([[_FOCAL_PX, 0, centre], [0, _FOCAL_PX, centre], [0, 0, 1]])
    camera, lens = Camera.from_K(K, _SIDE_PX, _SIDE_PX), Lens(K, _SIDE_PX, _SIDE_PX)
    estimator, model = FacePoseEstimator('cpu'), deformable_face()
    tiles, errors_deg = [], []
    try:
        studio = Studio(Models.load(Assets(options.assets)), SEED, ('makehuman',))
    except (MissingAssetError, RuntimeError) as error:
        parser.error(str(error))
    for identity, *angles in _VIEWS_DEG:
        with contextlib.ExitStack() as stack:
            person = stack.enter_context(studio.renderer.load(studio.person(identity)))
            R_roll = Rotation.from_euler('z', angles[-1], degrees=True).as_matrix()
            pose = _pose(person.person.neck, angles, R_roll)
            rgb = render(studio, [(person, pose)], lens, R_roll)
        faces = estimator.estimate(rgb, camera)
        tiles.append(draw_overlay(rgb, faces, camera, model, ''))
        errors_deg += [_apart_deg(face.T_cam_head, pose.T_cam_head) for face in faces]
    save([_sheet(tiles)], options.out)
    print(
        f'{len(errors_deg)} of {len(_VIEWS_DEG)} heads found, '
        f'mean error of rotation {np.mean(errors_deg):.1f} deg'
    )


def _pose(neck: NDArray, angles_deg: Sequence[float], R_roll: NDArray) -> Pose:
    """The head turned about the neck, and both head and torso about the line of sight."""
    yaw, pitch, roll, torso, _ = angles_deg
    R_head, R_torso = attitude(roll, yaw, pitch), attitude(0, torso, 0)
    T = np.eye(4)
    T[:3, :3] = R_roll @ R_head
    T[:3, 3] = R_roll @ ([0, 0, _DISTANCE_M] + (R_torso - R_head) @ neck)
    return Pose(T, Rotation.from_matrix(R_head.T @ R_torso).as_rotvec())


def _apart_deg(T_a: NDArray, T_b: NDArray) -> float:
    return float(np.degrees(np.linalg.norm(rotations.log(T_a[:3, :3] @ T_b[:3, :3].T))))


def _sheet(tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Rows of tiles with white lines between them."""
    framed = [
        cv2.copyMakeBorder(
            tile, 0, _GAP_PX, 0, _GAP_PX, cv2.BORDER_CONSTANT, value=(255, 255, 255)
        )
        for tile in tiles
    ]
    rows = [np.hstack(framed[i : i + _COLUMNS]) for i in range(0, len(framed), _COLUMNS)]
    return np.asarray(np.vstack(rows)[:-_GAP_PX, :-_GAP_PX], np.uint8)


if __name__ == '__main__':
    main()
