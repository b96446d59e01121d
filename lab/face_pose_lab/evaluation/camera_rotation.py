# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera-rotation consistency: change of the pose when only the camera turns.

A virtual camera shows every portrait in random views. The pose in each view is rotated back by the
view's exact rotation and compared with the mean of all views.

    python -m face_pose_lab.evaluation.camera_rotation --views 60
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.results import FacePose
from face_pose_ros.samples import load_image, load_portraits
from face_pose_ros.virtual_camera import (
    LENSES,
    View,
    lens_camera,
    look_at,
    photo_camera,
    render_view,
    spread,
)

WIDTH, HEIGHT = 960, 720  # px, of random views


@dataclass(frozen=True)
class Consistency:
    """Spread of one head's pose over the views of one portrait through one lens."""

    portrait: str
    lens: str
    views: int
    found: int
    angle_mean_deg: float  # geodesic distance to the mean rotation
    angle_p95_deg: float
    translation_mean_percent: float  # distance to the mean position, of the head's distance
    translation_p95_percent: float


def largest(faces: Sequence[FacePose]) -> FacePose | None:
    """The face with the largest box."""
    return max(faces, key=lambda f: np.ptp(f.box_xyxy.reshape(2, 2), axis=0).max(), default=None)


def random_views(
    face_xyz_photo: NDArray[np.float64], lens: str, count: int, rng: np.random.Generator
) -> Iterator[View]:
    """Random views of a face.

    From the direction of the face: up to 18 deg pan, 22 deg tilt and 30 deg roll; focal lengths
    of 550 to 1000 px; principal point up to 48 px from the centre. Views that cut off a part of
    the face are rejected.

    Args:
        face_xyz_photo: (P, 3) points of the face in the photograph's camera frame.
        lens: A key of LENSES.
        count: Number of views.
        rng: Source of random numbers.
    """
    R_photo_aim = look_at(face_xyz_photo.mean(axis=0))
    while count > 0:
        pan, tilt, roll = rng.uniform(-1, 1, 3) * (18, 22, 30)
        R = R_photo_aim @ Rotation.from_euler('YXZ', [pan, tilt, roll], degrees=True).as_matrix()
        f = rng.uniform(550, 1000)
        cx, cy = 0.5 * np.array([WIDTH, HEIGHT]) + rng.uniform(-48, 48, 2)
        K = [f, 0, cx, 0, 1.02 * f, cy, 0, 0, 1]
        # Rejected if any lens cuts off the face, so that all lenses have the same views.
        if all(_sees(lens_camera(K, WIDTH, HEIGHT, name), face_xyz_photo @ R) for name in LENSES):
            count -= 1
            yield View(R, lens_camera(K, WIDTH, HEIGHT, lens))


def _sees(camera: Camera, xyz_cam: NDArray[np.float64]) -> bool:
    uv, valid, _ = camera.project(xyz_cam)
    inside = (uv > 0) & (uv < [camera.width - 1, camera.height - 1])
    return bool(valid.all() and inside.all())


def measure(
    name: str,
    photo: NDArray[np.uint8],
    lens: str,
    views: int,
    estimator: FacePoseEstimator,
    seed: int = 0,
) -> Consistency:
    """Consistency of the largest face of a photograph.

    Raises:
        ValueError: No face is found in the photograph itself.
    """
    photo_cam = photo_camera(photo.shape[1], photo.shape[0])
    reference = largest(estimator.estimate(photo, photo_cam))
    if reference is None:
        raise ValueError(f'{name}: no face found')
    xyz_head = estimator.model.xyz_head
    xyz_photo = xyz_head @ reference.T_cam_head[:3, :3].T + reference.T_cam_head[:3, 3]
    T_photo_head = []
    rng = np.random.default_rng(seed)
    bar = tqdm(
        random_views(xyz_photo, lens, views, rng),
        total=views,
        desc=f'{name}, {lens}',
        leave=False,
        disable=None,
    )
    for view in bar:
        face = largest(estimator.estimate(render_view(photo, photo_cam, view), view.camera))
        if face is not None:
            T_photo_cam = np.eye(4)
            T_photo_cam[:3, :3] = view.R_photo_cam
            T_photo_head.append(T_photo_cam @ face.T_cam_head)
    angle, offset = spread(np.array(T_photo_head))
    return Consistency(
        portrait=name,
        lens=lens,
        views=views,
        found=len(T_photo_head),
        angle_mean_deg=float(angle.mean()),
        angle_p95_deg=float(np.percentile(angle, 95)),
        translation_mean_percent=float(offset.mean()),
        translation_p95_percent=float(np.percentile(offset, 95)),
    )


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('images', nargs='*', type=Path, help='portraits; default: the shipped two')
    parser.add_argument('--views', type=int, default=60, help='views per portrait and lens')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    options = parser.parse_args(args)

    portraits = {p.stem: load_image(p) for p in options.images} or load_portraits()
    estimator = FacePoseEstimator(options.device)
    print(f'{"portrait":<14}{"lens":<13}{"found":>8}{"angle [deg]":>22}{"translation [%]":>22}')
    print(f'{"":35}{"mean":>14}{"p95":>8}{"mean":>14}{"p95":>8}')
    results = []
    for name, photo in portraits.items():
        for lens in LENSES:
            r = measure(name, photo, lens, options.views, estimator, options.seed)
            results.append(asdict(r))
            print(
                f'{name:<14}{lens:<13}{r.found:>4}/{r.views:<3}'
                f'{r.angle_mean_deg:>14.2f}{r.angle_p95_deg:>8.2f}'
                f'{r.translation_mean_percent:>14.2f}{r.translation_p95_percent:>8.2f}'
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
