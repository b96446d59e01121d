"""How long is it from an image to the poses in it, in one process?

    python benchmarks/latency.py                            # stages and engines, 1280 x 720
    python benchmarks/latency.py --growth                   # 1 to 64 faces, VGA to 4K
    python benchmarks/latency.py --device cuda:0 --growth   # the same on a GPU

A stream is played at 30 Hz: what is done between two images is not part of an image's time, and
what is not ready when the next one comes is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from machine import machine
from scenes import SIZES, camera_of, drifting, faces_in

from face_pose_ros import Camera, FacePoseEstimator
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.pose.refine import fit_pose

WIDTH, HEIGHT, FOCAL_PX = 1280, 720, 900.0
PERIOD_S = 1 / 30


def make_image() -> np.ndarray:
    """(720, 1280, 3) uint8 RGB: a portrait at its own size on grey."""
    return faces_in(WIDTH, HEIGHT, 1)


def percentiles(times_s: Sequence[float]) -> dict[str, float]:
    """Percentiles of times, in milliseconds."""
    return {f'p{p}_ms': float(1000 * np.percentile(times_s, p)) for p in (5, 50, 95)}


def time_ms(call: Callable[[], object], device: torch.device, runs: int) -> dict[str, float]:
    """Percentiles over `runs` calls after five to warm up."""
    times_s = []
    for _ in range(runs + 5):
        start_s = time.perf_counter()
        call()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        times_s.append(time.perf_counter() - start_s)
    return percentiles(times_s[5:])


def stream_ms(
    estimator: FacePoseEstimator, frames: Sequence[np.ndarray], camera: Camera, runs: int
) -> dict[str, float]:
    """Percentiles of `track` on a stream, after ten images; and how many faces were followed."""
    times_s, counts = [], []
    begin_s = time.perf_counter()
    for i in range(runs + 10):
        time.sleep(max(begin_s + i * PERIOD_S - time.perf_counter(), 0))
        start_s = time.perf_counter()
        faces = estimator.track(frames[i % len(frames)], camera, i * PERIOD_S)
        times_s.append(time.perf_counter() - start_s)
        counts.append(len(faces))
    return {**percentiles(times_s[10:]), 'faces': float(np.median(counts[10:]))}


def stages(device: str, runs: int) -> dict[str, dict[str, float]]:
    """Each stage with the engine chosen by itself, and the stream with every engine."""
    image, camera = make_image(), camera_of(WIDTH, HEIGHT)
    estimator = FacePoseEstimator(device)
    on_device = camera.to(estimator.device, torch.float64)
    pixels = torch.from_numpy(image).to(estimator.device)
    with torch.inference_mode():
        faces = estimator.detector.detect(pixels)
        keypoints = estimator.keypoints.predict(pixels, faces, on_device)
        calls: dict[str, Callable[[], object]] = {
            'detect': lambda: estimator.detector.detect(pixels),
            'keypoints, one look': lambda: estimator.keypoints.follow(
                pixels, keypoints.uv, on_device
            ),
            'pose': lambda: fit_pose(keypoints, estimator.model, on_device),
            'estimate (no memory)': lambda: estimator.estimate(image, camera),
        }
        results = {n: time_ms(call, estimator.device, runs) for n, call in calls.items()}
    frames = drifting(image)
    engines = ('openvino', 'torch') if estimator.device.type == 'cpu' else ('auto', 'torch')
    for engine in engines:
        networks = load_networks(device, engine)
        stream = FacePoseEstimator(networks=networks)
        stream.warm_up()
        results[f'track, engine {engine}'] = stream_ms(stream, frames, camera, runs)
    return results


def growth(device: str, runs: int) -> dict[str, dict[str, float]]:
    """The stream with more faces and with larger images."""
    results = {}
    cases = [('720p', n) for n in (1, 2, 4, 8, 16, 32, 64)] + [(s, 1) for s in SIZES]
    for size, count in cases:
        width, height = SIZES[size]
        estimator = FacePoseEstimator(device)
        frames = drifting(faces_in(width, height, count), 16)
        camera = camera_of(width, height)
        results[f'{size}, {count}'] = stream_ms(estimator, frames, camera, runs)
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
    else:
        axes.set_xlim(left=0)
    axes.grid(axis='x', alpha=0.3)
    axes.set_xlabel('p50, line from p5 to p95 [ms]')
    figure.savefig(path)


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--runs', type=int, default=100)
    parser.add_argument('--growth', action='store_true', help='more faces and larger images')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--plot', type=Path, help='and plot them into this one')
    options = parser.parse_args(args)
    torch.set_num_threads(options.threads)

    results = (growth if options.growth else stages)(options.device, options.runs)
    info = machine(torch.device(options.device))
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
