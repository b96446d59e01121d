"""How long is it from an image to the poses in it? One face in 1280 x 720, stage by stage.

python benchmarks/latency.py --threads 2
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from machine import machine

from face_pose_ros import Camera, FacePoseEstimator
from face_pose_ros.evaluation.portraits import load_portraits
from face_pose_ros.pose.refine import fit_pose

WIDTH, HEIGHT, FOCAL_PX = 1280, 720, 900.0


def make_image() -> np.ndarray:
    """(720, 1280, 3) uint8 RGB: a portrait at its own size on grey."""
    portrait = load_portraits()['grace_hopper']
    image = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    height, width = portrait.shape[:2]
    image[60 : 60 + height, 384 : 384 + width] = portrait
    return image


def time_ms(call: Callable[[], object], device: torch.device, runs: int) -> dict[str, float]:
    """Percentiles over `runs` calls after five to warm up."""
    times = []
    for i in range(runs + 5):
        start = time.perf_counter()
        call()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        if i >= 5:
            times.append(1000 * (time.perf_counter() - start))
    return {'p50_ms': float(np.percentile(times, 50)), 'p95_ms': float(np.percentile(times, 95))}


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--runs', type=int, default=100)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    options = parser.parse_args(args)
    torch.set_num_threads(options.threads)

    estimator = FacePoseEstimator(options.device)
    image = make_image()
    K = [FOCAL_PX, 0, 0.5 * (WIDTH - 1), 0, FOCAL_PX, 0.5 * (HEIGHT - 1), 0, 0, 1]
    camera = Camera.from_K(K, WIDTH, HEIGHT)
    on_device = camera.to(estimator.device)
    pixels = torch.from_numpy(image).to(estimator.device)
    stamps = iter(np.arange(1e6) / 30)
    with torch.inference_mode():
        faces = estimator.detector.detect(pixels)
        keypoints = estimator.keypoints.predict(pixels, faces, on_device)
        stages: dict[str, Callable[[], object]] = {
            'detect': lambda: estimator.detector.detect(pixels),
            'keypoints, one look': lambda: estimator.keypoints.follow(
                pixels, keypoints.uv, on_device
            ),
            'pose': lambda: fit_pose(keypoints, estimator.model, on_device),
            'estimate (no memory)': lambda: estimator.estimate(image, camera),
            'track (stream)': lambda: estimator.track(image, camera, float(next(stamps))),
        }
        results = {
            name: time_ms(call, estimator.device, options.runs) for name, call in stages.items()
        }
    info = machine(estimator.device)
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    print(f'{"image in to poses out":<24}{"p50 [ms]":>10}{"p95 [ms]":>10}')
    for name, figures in results.items():
        print(f'{name:<24}{figures["p50_ms"]:>10.1f}{figures["p95_ms"]:>10.1f}')
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': results}, indent=1) + '\n')


if __name__ == '__main__':
    main()
