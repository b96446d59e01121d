# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the time from an image to its poses, in one process.

    python benchmarks/latency.py                           # stages and engines, 1280 x 720
    python benchmarks/latency.py --growth                  # 1 to 64 faces, VGA to 4K, 8 cameras
    python benchmarks/latency.py --device cuda:0 --growth  # the same on a GPU
    python benchmarks/latency.py --device cuda:0 --gpu 3350 989  # with an H100's bounds

A stream is played at 30 Hz. Work between two images does not count, unless it is not finished when
the next image arrives. Several cameras take their images at the same time and share the networks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import numpy as np
from against import add_against, compare
from machine import machine
from scenes import SIZES, camera_of, drifting, faces_in

from face_pose_ros import Camera, FacePoseEstimator
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.engines.shared import SharedNetworks
from face_pose_ros.keypoints.semantic import IS_FACE
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.pose.fit import fit_pose

WIDTH, HEIGHT, FOCAL_PX = 1280, 720, 900.0
PERIOD_S = 1 / 30


def make_image() -> np.ndarray:
    """(720, 1280, 3) uint8 RGB: a portrait at its own size on grey."""
    return faces_in(WIDTH, HEIGHT, 1)


def percentiles(times_s: Sequence[float]) -> dict[str, float]:
    """Percentiles of times, in milliseconds."""
    return {f'p{p}_ms': float(1000 * np.percentile(times_s, p)) for p in (5, 50, 95)}


def time_ms(call: Callable[[], object], runs: int) -> dict[str, float]:
    """Percentiles over `runs` calls after five to warm up."""
    times_s = []
    for _ in range(runs + 5):
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    return percentiles(times_s[5:])


def stream_s(
    estimator: FacePoseEstimator,
    frames: Sequence[np.ndarray],
    camera: Camera,
    runs: int,
    begin_s: float,
    frame: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[list[float], list[int]]:
    """Times of `track` on a stream after ten images, and the number of tracked faces in each.

    Args:
        estimator: Of this stream alone.
        frames: Repeated in a loop.
        camera: Of the frames.
        runs: Number of measured images.
        begin_s: Time of the first image, of `time.perf_counter`.
        frame: Context manager around the work on an image.
    """
    times_s, counts = [], []
    for i in range(runs + 10):
        time.sleep(max(begin_s + i * PERIOD_S - time.perf_counter(), 0))
        start_s = time.perf_counter()
        with frame():
            faces = estimator.track(frames[i % len(frames)], camera, i * PERIOD_S)
        times_s.append(time.perf_counter() - start_s)
        counts.append(len(faces))
    return times_s[10:], counts[10:]


def stream_ms(
    estimator: FacePoseEstimator, frames: Sequence[np.ndarray], camera: Camera, runs: int
) -> dict[str, float]:
    """Percentiles of `track` on a stream, and the mean number of tracked faces."""
    times_s, counts = stream_s(estimator, frames, camera, runs, time.perf_counter())
    return {**percentiles(times_s), 'faces': float(np.median(counts))}


def cameras_ms(device: str, count: int, runs: int) -> dict[str, float]:
    """The same for several cameras with a thread each; faces of all cameras."""
    shared = SharedNetworks()
    estimators = [FacePoseEstimator(networks=shared.load(device)) for _ in range(count)]
    frames, camera = drifting(make_image(), 16), camera_of(WIDTH, HEIGHT)
    begin_s = time.perf_counter() + 0.1  # after all threads have started
    with ThreadPoolExecutor(count) as threads:
        streams = list(
            threads.map(
                lambda each: stream_s(
                    each, frames, camera, runs, begin_s, partial(shared.frame, each.tracker)
                ),
                estimators,
            )
        )
    times_s = [time_s for stream, _ in streams for time_s in stream]
    faces = sum(float(np.median(counts)) for _, counts in streams)
    return {**percentiles(times_s), 'faces': faces}


def stages(device: str, runs: int) -> dict[str, dict[str, float]]:
    """Each stage with the default engine, and the stream with every engine."""
    image, camera = make_image(), camera_of(WIDTH, HEIGHT)
    estimator = FacePoseEstimator(device)
    faces = estimator.detector.detect(image, camera)
    predictor = estimator.keypoints
    keypoints = predictor.predict(image, faces, camera)
    keypoints = keypoints[keypoints.presence > 0]  # the others are no faces
    of_face, model = keypoints.uv[:, IS_FACE], semantic_head()
    calls: dict[str, Callable[[], object]] = {
        'detect': lambda: estimator.detector.detect(image, camera),
        'keypoints, one crop': lambda: predictor.follow(image, of_face, camera),
        'pose': lambda: fit_pose(keypoints, model, camera),
        'estimate (no memory)': lambda: estimator.estimate(image, camera),
    }
    results = {name: time_ms(call, runs) for name, call in calls.items()}
    frames = drifting(image)
    engines = [] if find_spec('torch') is None else ['torch']
    engines.insert(0, 'openvino' if estimator.device == 'cpu' else 'auto')
    for engine in engines:
        networks = load_networks(device, engine)
        stream = FacePoseEstimator(networks=networks)
        stream.warm_up()
        results[f'track, engine {engine}'] = stream_ms(stream, frames, camera, runs)
    return results


def named(count: int) -> str:
    """A number of faces in words."""
    return f'{count} face' if count == 1 else f'{count} faces'


def growth(device: str, runs: int) -> dict[str, dict[str, float]]:
    """The stream with more faces, with larger images, and several of them."""
    results = {}
    cases = [('720p', n) for n in (1, 2, 4, 8, 16, 32, 64)] + [(s, 1) for s in SIZES]
    for size, count in cases:
        width, height = SIZES[size]
        estimator = FacePoseEstimator(device)
        frames = drifting(faces_in(width, height, count), 16)
        camera = camera_of(width, height)
        results[f'{size}, {named(count)}'] = stream_ms(estimator, frames, camera, runs)
    for count in (2, 4, 8):
        results[f'{count} cameras'] = cameras_ms(device, count, runs)
    return results


def plot(results: dict[str, dict[str, float]], path: Path) -> None:
    """A dot for each p50, a line from p5 to p95."""
    mpl.use('agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.35 * len(results) + 1), layout='constrained')
    p5, p50, p95 = (np.array([r[f'p{p}_ms'] for r in results.values()]) for p in (5, 50, 95))
    axes.errorbar(p50, list(results), xerr=[p50 - p5, p95 - p50], fmt='o')
    axes.invert_yaxis()
    if p50.max() > 20 * p50.min():
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
    else:
        axes.set_xlim(left=0)
    axes.grid(axis='x', alpha=0.3)
    axes.set_xlabel('latency: p50, line from p5 to p95 [ms]')
    figure.savefig(path)


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--runs', type=int, default=100)
    parser.add_argument('--growth', action='store_true', help='more faces, images, cameras')
    parser.add_argument(
        '--gpu',
        type=float,
        nargs='*',
        metavar='PEAK',
        help='only what runs on the GPU, in float16; with its peak bandwidth [GB/s] and '
        'computation [TFLOP/s], also the lower bound of each time',
    )
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--plot', type=Path, help='and plot them into this one')
    add_against(parser)
    options = parser.parse_args(args)
    if options.against:
        compare(Path(__file__).with_name('track_cost.py'), options.against, own=True)
        return
    info = machine(options.device)
    if options.gpu is not None:
        if len(options.gpu) not in (0, 2):
            parser.error(f'--gpu takes no number or two, got {len(options.gpu)}')
        from device_path import device_path, table  # it needs torch

        is_there = options.device.startswith('cuda')
        times = device_path(options.device, options.runs) if is_there else None
        results = table(times, options.gpu)
        if options.json:
            options.json.write_text(json.dumps({**info, 'results': results}, indent=1) + '\n')
        return

    results = (growth if options.growth else stages)(options.device, options.runs)
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    print(f'{"image in to poses out":<28}{"p5":>8}{"p50":>8}{"p95 [ms]":>10}')
    for name, r in results.items():
        print(f'{name:<28}{r["p5_ms"]:>8.1f}{r["p50_ms"]:>8.1f}{r["p95_ms"]:>10.1f}')
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': results}, indent=1) + '\n')
    if options.plot:
        plot(results, options.plot)


if __name__ == '__main__':
    main()
