# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the time of `track` without the inference of the networks.

    python benchmarks/track_cost.py --against WORKTREE

Faces at rest on a stream at 30 Hz; the time of network calls is subtracted. Uses only the public
interface and the networks' fields, so that it runs with older builds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from against import add_against, compare

from face_pose_ros import Camera, FacePoseEstimator
from face_pose_ros.engines.networks import load_networks

WIDTH, HEIGHT, PERIOD_S = 1280, 720, 1 / 30
_PORTRAITS = Path(__file__).parent.parent / 'test' / 'golden' / 'portraits.jpg'


class Timed:
    """A network that sums up the duration of its calls."""

    def __init__(self, network: Callable) -> None:
        """Start with a duration of 0."""
        self._network = network
        self.total_s = 0.0

    def __call__(self, *args: Any) -> Any:
        """Call the network."""
        start_s = time.perf_counter()
        answer = self._network(*args)
        self.total_s += time.perf_counter() - start_s
        return answer

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._network, name)
        # Bound to this object, so that inference is timed and rendering of crops is not.
        return value.__func__.__get__(self) if name == 'on_crops' else value


def picture(faces: int) -> np.ndarray:
    """(720, 1280, 3) uint8 RGB with one face or four."""
    sheet = cv2.imread(str(_PORTRAITS))[..., ::-1]
    side = 512 if faces == 1 else 320
    image = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    for i in range(faces):
        portrait = cv2.resize(
            np.ascontiguousarray(sheet[:, 256 * (i % 2) :][:, :256]), (side,) * 2
        )
        left, top = (380, 100) if faces == 1 else (160 + 560 * (i % 2), 30 + 345 * (i // 2))
        image[top : top + side, left : left + side] = portrait
    return image


def track_ms(faces: int, runs: int) -> dict[str, float]:
    """Median and 95th percentile of `track`, and without inference, after 20 images."""
    networks = load_networks('cpu')
    # Older builds have two keypoint networks.
    names = [name for name in ('keypoints', 'hourglass') if name in networks._fields]
    timed = [Timed(getattr(networks, name)) for name in names]
    networks = networks._replace(**dict(zip(names, timed, strict=True)))
    estimator = FacePoseEstimator(networks=networks)
    image = picture(faces)
    camera = Camera.from_K([900, 0, 639.5, 0, 900, 359.5, 0, 0, 1], WIDTH, HEIGHT)
    whole, rest = [], []
    begin_s = time.perf_counter()
    for i in range(runs + 20):
        time.sleep(max(begin_s + i * PERIOD_S - time.perf_counter(), 0))
        before_s, start_s = sum(network.total_s for network in timed), time.perf_counter()
        found = estimator.track(image, camera, i * PERIOD_S)
        took_s = time.perf_counter() - start_s
        whole.append(took_s)
        rest.append(took_s - (sum(network.total_s for network in timed) - before_s))
    assert len(found) == faces, f'{len(found)} faces found in an image of {faces}'
    return {
        'p50_ms': 1e3 * float(np.median(whole[20:])),
        'p95_ms': 1e3 * float(np.percentile(whole[20:], 95)),
        'without inference p50_ms': 1e3 * float(np.median(rest[20:])),
    }


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=200)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    add_against(parser)
    options = parser.parse_args(args)
    if options.against:
        compare(__file__, options.against, own=True)
        return
    results = {f'{faces} faces': track_ms(faces, options.runs) for faces in (1, 4)}
    for name, figures in results.items():
        print(name, ', '.join(f'{key} {value:.2f}' for key, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps({'results': results}, indent=1) + '\n')


if __name__ == '__main__':
    main()
