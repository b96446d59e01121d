# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the time that a depth image adds to the fit of one face.

    python benchmarks/depth_cost.py

30 poses of the mean face, with depth images that are aligned to the colour image and from a second
camera. Fits with and without depth alternate, so that load of the machine slows both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from machine import machine

from face_pose_ros import Camera, DepthImage
from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Keypoints

_R_FACING = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
_SIZE = 0.87  # of the face, over that of the mean face
_SIGMA_PX = 1.5


def scene(rng: np.random.Generator, camera: Camera) -> tuple[Keypoints, np.ndarray]:
    """Keypoints of a face, and a depth image (H, W) [mm] of the plane that it lies in."""
    face = deformable_face()
    T = np.eye(4)
    T[:3, :3] = rotations.exp(rng.uniform(-0.4, 0.4, 3)) @ _R_FACING
    T[:3, 3] = rng.uniform((-0.2, -0.1, 0.5), (0.2, 0.1, 2.0))
    xyz = rotations.apply(T, face.xyz_head)
    uv = camera.project(xyz).uv
    uv = uv + _SIGMA_PX * rng.standard_normal(uv.shape)
    z = np.full((camera.height, camera.width), 3.0)
    rows, columns = np.indices(z.shape)
    # A pixel has the depth of the nearest face point: coarse, but the fit takes as long.
    left, top = np.floor(uv.min(0)).astype(int).clip(0)
    right, bottom = np.ceil(uv.max(0)).astype(int)
    part = np.s_[top:bottom, left:right]
    pixels = np.stack([columns[part], rows[part]], -1)[:, :, None]
    nearest = ((pixels - uv) ** 2).sum(-1).argmin(-1)
    z[part] = _SIZE * xyz[nearest, 2]
    cov_uv = np.tile(_SIGMA_PX**2 * np.eye(2), (1, len(uv), 1, 1))
    return Keypoints(uv[None], cov_uv, np.ones(1)), np.round(1000 * z).astype(np.uint16)


def cost_ms(rounds: int) -> dict[str, float]:
    """Medians of `fit_pose` [ms]: without depth, with aligned depth, with a second camera's."""
    rng, face = np.random.default_rng(3), deformable_face()
    camera = Camera.from_fov(640, 480, 60)
    T_cam_depth = np.eye(4)
    T_cam_depth[0, 3] = 0.03
    scenes = [scene(rng, camera) for _ in range(30)]
    times: dict[str, list[float]] = {'without': [], 'aligned': [], 'beside': []}
    for _ in range(rounds + 1):
        for keypoints, z in scenes:
            images = {
                'without': None,
                'aligned': DepthImage(z, camera),
                'beside': DepthImage(z, camera, T_cam_depth),
            }
            for name, depth in images.items():
                start_s = time.perf_counter()
                fit_pose(keypoints, face, camera, depth=depth)
                times[name].append(1e3 * (time.perf_counter() - start_s))
    medians = {name: float(np.median(values[len(scenes) :])) for name, values in times.items()}
    added = {f'{name} adds': medians[name] - medians['without'] for name in ('aligned', 'beside')}
    return medians | added


def main(args: Sequence[str] | None = None) -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    options = parser.parse_args(args)
    results = cost_ms(options.rounds)
    for name, value in results.items():
        print(f'{name}: {value:.3f} ms')
    if options.json:
        figures = {'machine': machine(), 'p50_ms': results}
        options.json.write_text(json.dumps(figures, indent=1) + '\n')


if __name__ == '__main__':
    main()
