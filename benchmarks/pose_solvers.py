# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy, robustness, covariance and time of pose solvers.

    python benchmarks/pose_solvers.py [--only exact outliers calibration others time]

Every section draws its own faces from a fixed seed and gives all solvers the same keypoints.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from against import add_against, compare
from face_pose_lab.evaluation.cameras import DISTORTIONS, make_camera
from face_pose_lab.evaluation.draws import observe, random_poses
from face_pose_lab.reference.pavlakos import fit_pavlakos
from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_geometry.camera import torch_camera
from face_pose_lab.torch_types import Keypoints as TorchKeypoints
from machine import machine
from numpy.typing import NDArray

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel, deformable_face
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Keypoints

Array = NDArray[np.float64]

_INDEPENDENT = 1e9  # the noise here is independent


def rotation_deg(T: Array, truth: Array) -> Array:
    """(N,) geodesic distance."""
    return np.rad2deg(rotations.angle_between(T[:, :3, :3], truth[:, :3, :3]))


def position_mm(T: Array, truth: Array) -> Array:
    """(N,) distance."""
    return 1e3 * np.linalg.norm(T[:, :3, 3] - truth[:, :3, 3], axis=-1)


def exact(count: int, rng: np.random.Generator) -> dict[str, object]:
    """Noise-free keypoints of the mean face, any view, 0.3 to 8 m, every lens."""
    face = deformable_face()
    results: dict[str, object] = {}
    share = []
    for name in DISTORTIONS:
        camera = make_camera(name)
        T = random_poses(count // len(DISTORTIONS) + 1, camera, rng)
        poses = fit_pose(observe(face.xyz_head, T, camera), face, camera).poses
        deg, mm = rotation_deg(poses.T_cam_head, T), position_mm(poses.T_cam_head, T)
        good = (deg < 1e-4) & (mm < 1e-3) & ~poses.failed
        share.append(good)
        results[f'{name}: within 1e-4 deg and 1e-3 mm [%]'] = percent(good)
    results['all: within 1e-4 deg and 1e-3 mm [%]'] = percent(np.concatenate(share))
    return results


def outliers(count: int, rng: np.random.Generator) -> dict[str, object]:
    """1 px noise; every fifth keypoint has an error of 80 px."""
    face = deformable_face().keep('none')
    camera = make_camera('plumb_bob_5')
    T = random_poses(count, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    clean = observe(face.xyz_head, T, camera, noise_px=1, rng=rng)
    wrong = (rng.random((count, 468)) < 0.2)[..., None]
    shift = 80 * rng.standard_normal((count, 468, 2))
    dirty = replace(clean, uv=np.where(wrong, clean.uv + shift, clean.uv))
    told = replace(clean, cov_uv=np.where(wrong[..., None], np.inf, clean.cov_uv))
    ours = PoseOptions(independent_keypoints=_INDEPENDENT, visibility=False)
    plain = replace(ours, kernel='none')
    deg = {
        name: float(rotation_deg(fit_pose(k, face, camera, o).poses.T_cam_head, T).mean())
        for name, k, o in (
            ('ours', dirty, ours),
            ('oracle that knows the outliers', told, plain),
            ('least squares', dirty, plain),
        )
    }
    ratio = deg['ours'] / deg['oracle that knows the outliers']
    return {f'{name}, mean [deg]': d for name, d in deg.items()} | {'ours over oracle': ratio}


def calibration(count: int, rng: np.random.Generator) -> dict[str, object]:
    """Unknown shapes, 1.5 px noise: the covariance against the spread of the errors."""
    face = deformable_face()
    camera = make_camera('plumb_bob_5')
    T = random_poses(count, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    shape = rng.standard_normal((count, len(face.shape_names)))
    keypoints = observe(face.points(shape), T, camera, 1.5, 1.5, rng)
    options = PoseOptions(independent_keypoints=_INDEPENDENT, visibility=False)
    poses = fit_pose(keypoints, face, camera, options).poses
    error = rotations.difference(T, poses.T_cam_head)
    nees = (error * np.linalg.solve(poses.covariance, error[..., None])[..., 0]).sum(-1)
    return {
        'NEES, mean (calibrated: 6)': float(nees.mean()),
        'within the 68 % ellipsoid [%]': percent(nees < 7.0380),
        'within the 95 % ellipsoid [%]': percent(nees < 12.5916),
        'failed': int(poses.failed.sum()),
        'rotation, mean [deg]': float(rotation_deg(poses.T_cam_head, T).mean()),
    }


def others(count: int, rng: np.random.Generator) -> dict[str, object]:
    """The mean face, 1 px noise, a lens with distortion: error and time per face."""
    face = deformable_face().keep('none')
    camera = make_camera('plumb_bob_5')
    T = random_poses(count, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(face.xyz_head, T, camera, noise_px=1, rng=rng)
    options = PoseOptions(independent_keypoints=_INDEPENDENT, visibility=False)
    plain = replace(options, kernel='none')
    few = min(count, 20)  # Adam takes a second per face
    solvers: dict[str, tuple[Callable[[Keypoints], Array], int]] = {
        'ours': (lambda k: fit_pose(k, face, camera, options).poses.T_cam_head, count),
        'ours, least squares': (
            lambda k: fit_pose(k, face, camera, plain).poses.T_cam_head,
            count,
        ),
        'cv2 ITERATIVE': (lambda k: opencv(k, face, camera, cv2.SOLVEPNP_ITERATIVE), count),
        'cv2 SQPNP + refineLM': (lambda k: opencv(k, face, camera, cv2.SOLVEPNP_SQPNP), count),
        'Pavlakos et al., full perspective': (
            lambda k: pavlakos(k, face, camera),
            min(count, 200),
        ),
        'Adam from a random start': (
            lambda k: adam(k, face, camera, rng),
            few,
        ),
    }
    results: dict[str, object] = {}
    for name, (solve, number) in solvers.items():
        solve(keypoints[np.arange(1)])
        start = time.perf_counter()
        found = np.concatenate([solve(keypoints[np.array([i])]) for i in range(number)])
        ms = 1e3 * (time.perf_counter() - start) / number
        # The same faces for all solvers, then all faces of this one.
        results[name] = {
            f'first {few}: median [deg]': float(np.median(rotation_deg(found, T[:number])[:few])),
            'mean [deg]': float(rotation_deg(found, T[:number]).mean()),
            'mean [mm]': float(position_mm(found, T[:number]).mean()),
            'faces': number,
            'ms per face': ms,
        }
    return results


def timing(count: int, rng: np.random.Generator) -> dict[str, object]:
    """The whole fit, from pixels to covariance, with all modes and from the closed form."""
    face = deformable_face()
    camera = make_camera('plumb_bob_5')
    T = random_poses(16, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    shape = rng.standard_normal((16, len(face.shape_names)))
    keypoints = observe(face.points(shape), T, camera, 1.5, 1.5, rng)
    results: dict[str, object] = {}
    for faces in (1, 4, 8, 16):
        some = keypoints[np.arange(faces)]
        times = []
        for _ in range(count):
            start = time.perf_counter()
            fit_pose(some, face, camera)
            times.append(1e3 * (time.perf_counter() - start))
        low, middle, high = np.percentile(times[5:], [5, 50, 95])
        results[f'{faces} faces'] = {'p5 [ms]': low, 'p50 [ms]': middle, 'p95 [ms]': high}
    return results


def opencv(keypoints: Keypoints, face: FaceModel, camera: Camera, method: int) -> Array:
    """(1, 4, 4) T_cam_head of OpenCV; a failure is the identity."""
    K, dist, xyz, uv = camera.K, camera.dist[:5], face.xyz_head, keypoints.uv[0]
    found, rvec, tvec = cv2.solvePnP(xyz, uv, K, dist, flags=method)
    if not found:
        return np.eye(4)[None]
    if method == cv2.SOLVEPNP_SQPNP:
        rvec, tvec = cv2.solvePnPRefineLM(xyz, uv, K, dist, rvec, tvec)
    return rotations.from_rt(rotations.exp(rvec[:, 0]), tvec[:, 0])[None]


def pavlakos(keypoints: Keypoints, face: FaceModel, camera: Camera) -> Array:
    """(1, 4, 4) T_cam_head of the method of Pavlakos et al. 2017."""
    columns = (keypoints.uv, keypoints.cov_uv, keypoints.presence)
    tensors = TorchKeypoints(*(torch.from_numpy(column) for column in columns))
    return fit_pavlakos(tensors, face, torch_camera(camera)).T_cam_head.numpy()


def adam(keypoints: Keypoints, face: FaceModel, camera: Camera, rng: np.random.Generator) -> Array:
    """(1, 4, 4) T_cam_head by gradient descent on axis-angle and translation.

    It starts at a random pose in front of the camera, and ends when a hundred steps gain less
    than 1e-6.
    """
    lens, xyz, uv = (
        torch_camera(camera),
        torch.from_numpy(face.xyz_head),
        torch.from_numpy(keypoints.uv[0]),
    )
    x = torch.from_numpy(np.concatenate([rng.standard_normal(3), [0, 0, 1]])).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=1e-2)
    best = float('inf')
    for step in range(5000):
        optimiser.zero_grad()
        xyz_cam = xyz @ so3.exp(x[:3]).mT + x[3:]
        loss = (lens.project(xyz_cam).uv - uv).square().sum(-1).mean()
        loss.backward()
        optimiser.step()
        if step % 100 == 99:
            if loss.item() > best * (1 - 1e-6):
                break
            best = loss.item()
    found = x.detach().numpy()
    return rotations.from_rt(rotations.exp(found[:3]), found[3:])[None]


def percent(mask: NDArray[np.bool_]) -> float:
    """Share of true values [%]."""
    return 100 * float(mask.mean())


def text(value: object) -> str:
    """A figure with four digits, or several in a row."""
    if isinstance(value, dict):
        return ', '.join(f'{key} {text(figure)}' for key, figure in value.items())
    return f'{value:.4g}' if isinstance(value, float) else str(value)


SECTIONS: dict[str, tuple[Callable[[int, np.random.Generator], dict[str, object]], int]] = {
    'exact': (exact, 10_000),
    'outliers': (outliers, 2_000),
    'calibration': (calibration, 10_000),
    'others': (others, 500),
    'time': (timing, 300),
}


def main(args: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument(
        '--count', type=int, help='draws of each section; its own number if absent'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    add_against(parser)
    options = parser.parse_args(args)
    if options.against:
        compare(__file__, options.against)
        return
    torch.set_num_threads(1)  # for Adam
    info = machine()
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    figures = {}
    for name in options.only:
        section, count = SECTIONS[name]
        rng = np.random.default_rng(options.seed)
        count = options.count or count
        figures[name] = section(count, rng)
        print(f'\n{name}: {count} draws. {section.__doc__}')
        for key, value in figures[name].items():
            print(f'  {key:<44}{text(value)}')
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': figures}, indent=1) + '\n')


if __name__ == '__main__':
    main()
