"""How exact, how robust, how honest and how fast is the pose solver, beside others?

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
from face_pose_lab.evaluation.draws import (
    DISTORTIONS,
    isotropic,
    make_camera,
    observe,
    random_poses,
)
from face_pose_lab.reference.pavlakos import fit_pavlakos
from machine import machine
from torch import Tensor

from face_pose_ros.geometry import se3, so3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel, deformable_face
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Keypoints

_INDEPENDENT = 1e9  # the noise drawn here is: every keypoint counts in full


def rotation_deg(T: Tensor, truth: Tensor) -> Tensor:
    """(N,) geodesic distance."""
    return so3.angle_between(T[:, :3, :3], truth[:, :3, :3]).rad2deg()


def position_mm(T: Tensor, truth: Tensor) -> Tensor:
    """(N,) distance."""
    return 1e3 * (T[:, :3, 3] - truth[:, :3, 3]).norm(dim=-1)


def exact(count: int, generator: torch.Generator) -> dict[str, object]:
    """Noise-free keypoints of the mean face, any view, 0.3 to 8 m, every lens."""
    face = deformable_face()
    results: dict[str, object] = {}
    share = []
    for name in DISTORTIONS:
        camera = make_camera(name)
        T = random_poses(count // len(DISTORTIONS) + 1, camera, generator)
        poses = fit_pose(observe(face.xyz_head, T, camera), face, camera).poses
        deg, mm = rotation_deg(poses.T_cam_head, T), position_mm(poses.T_cam_head, T)
        good = (deg < 1e-4) & (mm < 1e-3) & ~poses.failed
        share.append(good)
        results[f'{name}: within 1e-4 deg and 1e-3 mm [%]'] = percent(good)
    results['all: within 1e-4 deg and 1e-3 mm [%]'] = percent(torch.cat(share))
    return results


def outliers(count: int, generator: torch.Generator) -> dict[str, object]:
    """1 px noise, and one keypoint in five anywhere within some 80 px."""
    face = deformable_face().keep('none')
    camera = make_camera('plumb_bob_5')
    T = random_poses(count, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    clean = observe(face.xyz_head, T, camera, noise_px=1, generator=generator)
    wrong = torch.rand(count, 468, generator=generator) < 0.2
    shift = 80 * torch.randn(count, 468, 2, generator=generator, dtype=torch.float64)
    dirty = replace(clean, uv=torch.where(wrong[..., None], clean.uv + shift, clean.uv))
    told = replace(clean, cov_uv=isotropic(torch.where(wrong, torch.inf, 1.0)))
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


def calibration(count: int, generator: torch.Generator) -> dict[str, object]:
    """Unknown shapes, 1.5 px noise: is the covariance the spread of the errors?"""
    face = deformable_face()
    camera = make_camera('plumb_bob_5')
    T = random_poses(count, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    shape = torch.randn(count, len(face.shape_names), generator=generator, dtype=torch.float64)
    keypoints = observe(face.points(shape), T, camera, 1.5, 1.5, generator)
    options = PoseOptions(independent_keypoints=_INDEPENDENT, visibility=False)
    poses = fit_pose(keypoints, face, camera, options).poses
    omega = so3.log(poses.T_cam_head[:, :3, :3] @ T[:, :3, :3].mT)
    error = torch.cat([poses.T_cam_head[:, :3, 3] - T[:, :3, 3], omega], -1)
    nees = (error * torch.linalg.solve(poses.covariance, error)).sum(-1)
    return {
        'NEES, mean (6 is right)': float(nees.mean()),
        'within the 68 % ellipsoid [%]': percent(nees < 7.0380),
        'within the 95 % ellipsoid [%]': percent(nees < 12.5916),
        'failed': int(poses.failed.sum()),
        'rotation, mean [deg]': float(rotation_deg(poses.T_cam_head, T).mean()),
    }


def others(count: int, generator: torch.Generator) -> dict[str, object]:
    """The mean face, 1 px noise, a lens with distortion: error and time per face."""
    face = deformable_face().keep('none')
    camera = make_camera('plumb_bob_5')
    T = random_poses(count, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(face.xyz_head, T, camera, noise_px=1, generator=generator)
    options = PoseOptions(independent_keypoints=_INDEPENDENT, visibility=False)
    plain = replace(options, kernel='none')
    few = min(count, 20)  # the seed method takes a second a face
    solvers: dict[str, tuple[Callable[[Keypoints], Tensor], int]] = {
        'ours': (lambda k: fit_pose(k, face, camera, options).poses.T_cam_head, count),
        'ours, least squares': (
            lambda k: fit_pose(k, face, camera, plain).poses.T_cam_head,
            count,
        ),
        'cv2 ITERATIVE': (lambda k: opencv(k, face, camera, cv2.SOLVEPNP_ITERATIVE), count),
        'cv2 SQPNP + refineLM': (lambda k: opencv(k, face, camera, cv2.SOLVEPNP_SQPNP), count),
        'Pavlakos et al., full perspective': (
            lambda k: fit_pavlakos(k, face, camera).T_cam_head,
            min(count, 200),
        ),
        'seed method: Adam from a random start': (
            lambda k: adam(k, face, camera, generator),
            few,
        ),
    }
    results: dict[str, object] = {}
    for name, (solve, number) in solvers.items():
        solve(keypoints[torch.arange(1)])
        start = time.perf_counter()
        found = torch.cat([solve(keypoints[torch.tensor([i])]) for i in range(number)])
        ms = 1e3 * (time.perf_counter() - start) / number
        # The same faces for everybody, and then all that this solver had time for.
        results[name] = {
            f'first {few}: median [deg]': float(rotation_deg(found, T[:number])[:few].median()),
            'mean [deg]': float(rotation_deg(found, T[:number]).mean()),
            'mean [mm]': float(position_mm(found, T[:number]).mean()),
            'faces': number,
            'ms per face': ms,
        }
    return results


def timing(count: int, generator: torch.Generator) -> dict[str, object]:
    """The whole fit, from pixels to covariance, with all modes and from the closed form."""
    face = deformable_face()
    camera = make_camera('plumb_bob_5')
    T = random_poses(16, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    shape = torch.randn(16, len(face.shape_names), generator=generator, dtype=torch.float64)
    keypoints = observe(face.points(shape), T, camera, 1.5, 1.5, generator)
    results: dict[str, object] = {}
    for faces in (1, 4, 8, 16):
        some = keypoints[torch.arange(faces)]
        times = []
        for _ in range(count):
            start = time.perf_counter()
            fit_pose(some, face, camera)
            times.append(1e3 * (time.perf_counter() - start))
        low, middle, high = np.percentile(times[5:], [5, 50, 95])
        results[f'{faces} faces, p5 / p50 / p95 [ms]'] = f'{low:.2f} / {middle:.2f} / {high:.2f}'
    return results


def opencv(keypoints: Keypoints, face: FaceModel, camera: Camera, method: int) -> Tensor:
    """(1, 4, 4) T_cam_head of OpenCV; a failure is the identity."""
    K, dist = camera.K.numpy(), camera.dist[:5].numpy()
    xyz, uv = face.xyz_head.numpy(), keypoints.uv[0].numpy()
    found, rvec, tvec = cv2.solvePnP(xyz, uv, K, dist, flags=method)
    if not found:
        return torch.eye(4, dtype=torch.float64)[None]
    if method == cv2.SOLVEPNP_SQPNP:
        rvec, tvec = cv2.solvePnPRefineLM(xyz, uv, K, dist, rvec, tvec)
    R, t = so3.exp(torch.from_numpy(rvec[:, 0])), torch.from_numpy(tvec[:, 0])
    return se3.from_rt(R, t)[None]


def adam(
    keypoints: Keypoints, face: FaceModel, camera: Camera, generator: torch.Generator
) -> Tensor:
    """(1, 4, 4) T_cam_head by gradient descent on axis-angle and translation.

    The start is random, in front of the camera; it ends when a hundred steps gain less than 1e-6.
    """
    start = torch.cat([torch.randn(3, generator=generator), torch.tensor([0.0, 0, 1])]).double()
    x = start.requires_grad_()
    optimiser = torch.optim.Adam([x], lr=1e-2)
    best = float('inf')
    for step in range(5000):
        optimiser.zero_grad()
        xyz_cam = face.xyz_head @ so3.exp(x[:3]).mT + x[3:]
        loss = (camera.project(xyz_cam).uv - keypoints.uv[0]).square().sum(-1).mean()
        loss.backward()
        optimiser.step()
        if step % 100 == 99:
            if loss.item() > best * (1 - 1e-6):
                break
            best = loss.item()
    x = x.detach()
    return se3.from_rt(so3.exp(x[:3]), x[3:])[None]


def percent(mask: Tensor) -> float:
    """Share of true values [%]."""
    return 100 * float(mask.double().mean())


def text(value: object) -> str:
    """A figure with four digits, or several in a row."""
    if isinstance(value, dict):
        return ', '.join(f'{key} {text(figure)}' for key, figure in value.items())
    return f'{value:.4g}' if isinstance(value, float) else str(value)


SECTIONS: dict[str, tuple[Callable[[int, torch.Generator], dict[str, object]], int]] = {
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
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    options = parser.parse_args(args)
    torch.set_num_threads(options.threads)
    info = machine(torch.device('cpu'))
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    figures = {}
    for name in options.only:
        section, count = SECTIONS[name]
        generator = torch.Generator().manual_seed(options.seed)
        count = options.count or count
        figures[name] = section(count, generator)
        print(f'\n{name}: {count} draws. {section.__doc__}')
        for key, value in figures[name].items():
            print(f'  {key:<44}{text(value)}')
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': figures}, indent=1) + '\n')


if __name__ == '__main__':
    main()
