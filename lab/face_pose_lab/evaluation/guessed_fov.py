# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors caused by a guessed horizontal field of view, on the portraits.

A virtual webcam of known calibration shows each portrait on the axis and off it. The pose is
estimated with the true and with guessed calibrations, in the same images.

    python -m face_pose_lab.evaluation.guessed_fov
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.evaluation.camera_rotation import largest
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.samples import load_portraits
from face_pose_ros.virtual_camera import (
    View,
    lens_camera,
    look_at,
    photo_camera,
    render_view,
)

WIDTH, HEIGHT = 640, 480  # px
PANS_DEG = (0.0, 11.0, 22.0)  # angles of the head off the axis, left and right


def pinhole(fov_deg: float, lens: str = 'none') -> Camera:
    """Camera with a horizontal field of view (of the undistorted lens)."""
    f = 0.5 * WIDTH / np.tan(np.deg2rad(0.5 * fov_deg))
    K = [f, 0, 0.5 * (WIDTH - 1), 0, f, 0.5 * (HEIGHT - 1), 0, 0, 1]
    return lens_camera(K, WIDTH, HEIGHT, lens)


def pictures(
    estimator: FacePoseEstimator, camera: Camera, pan_deg: float
) -> Iterator[NDArray[np.uint8]]:
    """Images of each portrait, with the camera turned to both sides of the face."""
    for photo in load_portraits().values():
        photo_cam = photo_camera(photo.shape[1], photo.shape[0])
        reference = largest(estimator.estimate(photo, photo_cam))
        assert reference is not None
        for pan in {-pan_deg, pan_deg}:
            turn = Rotation.from_euler('Y', pan, degrees=True).as_matrix()
            view = View(look_at(reference.T_cam_head[:3, 3]) @ turn, camera)
            yield render_view(photo, photo_cam, view)


def cost(
    estimator: FacePoseEstimator, seen: Sequence[NDArray[np.uint8]], camera: Camera, guess: Camera
) -> tuple[float, float, float]:
    """Means over images: change of distance [%], of the line of sight and the rotation [deg]."""
    rows = []
    for rgb in seen:
        true, guessed = (largest(estimator.estimate(rgb, c)) for c in (camera, guess))
        assert true is not None
        assert guessed is not None
        t, t_guess = true.T_cam_head[:3, 3], guessed.T_cam_head[:3, 3]
        distance, distance_guess = np.linalg.norm(t), np.linalg.norm(t_guess)
        sight = np.arccos(np.clip(t @ t_guess / (distance * distance_guess), -1, 1))
        R = true.T_cam_head[:3, :3].T @ guessed.T_cam_head[:3, :3]
        turned = Rotation.from_matrix(R).magnitude()
        rows.append((100 * (distance_guess / distance - 1), *np.rad2deg([sight, turned])))
    change, sight_deg, turned_deg = np.mean(rows, axis=0)
    return float(change), float(sight_deg), float(turned_deg)


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--fov', type=float, default=60.0, help="the camera's own [deg]")
    parser.add_argument(
        '--guess', type=float, nargs='+', default=[50.0, 55.0, 60.0, 65.0, 70.0, 80.0]
    )
    parser.add_argument('--device', default='cpu')
    options = parser.parse_args(args)

    estimator = FacePoseEstimator(options.device)
    print(f'camera of {options.fov:g} deg; change of distance, line of sight, rotation')
    print(f'{"lens":<11}{"guess":>8}' + ''.join(f'{f"{pan:g} deg off":>27}' for pan in PANS_DEG))
    for lens in ('none', 'plumb_bob'):
        camera = pinhole(options.fov, lens)
        seen = [list(pictures(estimator, camera, pan)) for pan in PANS_DEG]
        for fov_deg in options.guess:
            costs = [cost(estimator, s, camera, pinhole(fov_deg)) for s in seen]
            cells = (f'{c:>+10.1f} %{s:>6.1f} {r:>4.1f} deg' for c, s, r in costs)
            print(f'{lens:<11}{fov_deg:>8g}' + ''.join(cells))


if __name__ == '__main__':
    main()
