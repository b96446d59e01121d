# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compares times on a GPU with the lower bound given by its peaks.

The bound is the networks' operations over the GPU's peak or their memory traffic over its
bandwidth, whichever is longer, if the output of every convolution goes through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scenes import SIZES, camera_of, drifting, faces_in
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines.networks import Networks, load_networks
from face_pose_ros.faces.head_cells import SIZE_MULTIPLE
from face_pose_ros.faces.head_detector import input_size
from face_pose_ros.keypoints.network_output import INPUT_PX
from face_pose_ros.networks.head_detector import packaged_head_detector
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network
from face_pose_ros.options import DetectorOptions

FACES = (1, 16, 64)
WIDTH, HEIGHT = SIZES['1080p']


class Work(NamedTuple):
    """Work of a network for some images."""

    flops: int  # multiplication and addition count as two
    numbers: int  # read and written: weights, images, outputs of convolutions

    def least_ms(self, bandwidth_gb_s: float, peak_tflop_s: float, number_bytes: int) -> float:
        """Time at the peaks of computation and bandwidth."""
        computing_s = self.flops / (1e12 * peak_tflop_s)
        moving_s = self.numbers * number_bytes / (1e9 * bandwidth_gb_s)
        return 1e3 * max(computing_s, moving_s)


def work_of(network: nn.Module, pictures: Tensor) -> Work:
    """Count the work of a network, on a CPU; convolutions only.

    Weights and images are read once, outputs written once and read once.
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    outputs: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: outputs.append(output.numel()))
        for layer in convolutions
    ]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(pictures)
    for hook in hooks:
        hook.remove()
    weights = sum(p.numel() for layer in convolutions for p in layer.parameters())
    return Work(counter.get_total_flops(), weights + pictures.numel() + 2 * sum(outputs))


def detector_input() -> Tensor:
    """The detector's input for a 1080p image."""
    size = input_size(HEIGHT, WIDTH, DetectorOptions())
    return torch.zeros(1, 3, *(side + -side % SIZE_MULTIPLE for side in size))


def crops(count: int) -> Tensor:
    """Crops for a number of faces."""
    return torch.zeros(count, 3, INPUT_PX, INPUT_PX)


@cache
def work() -> dict[str, Work]:
    """Work of a detection in a 1080p image, and of one forward pass for some faces."""
    keypoints = packaged_keypoint_network()
    one = work_of(keypoints, crops(1))
    of_face = work_of(keypoints, crops(2)).numbers - one.numbers
    passes = {
        f'keypoints, {n}': Work(n * one.flops, one.numbers + (n - 1) * of_face) for n in FACES
    }
    return {'detector': work_of(packaged_head_detector(), detector_input()), **passes}


def event_ms(call: Callable[[], object], runs: int) -> dict[str, float]:
    """Percentiles of the time between two CUDA events around a call, after ten warm-up calls."""
    times_ms = []
    for _ in range(runs + 10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times_ms.append(start.elapsed_time(end))
    return {f'p{p}_ms': float(np.percentile(times_ms[10:], p)) for p in (5, 50, 95)}


def device_path(device: str, runs: int) -> dict[str, dict[str, float]]:
    """Times of the networks alone, and of `track` with 1080p images on the GPU, image by image."""
    networks = load_networks(device)
    image = detector_input().to(networks.device)
    results = {'detector': event_ms(lambda: networks.detector(image), runs)}
    for count in FACES:
        pictures = crops(count).to(networks.device)
        results[f'keypoints, {count}'] = event_ms(lambda p=pictures: networks.keypoints(p), runs)
    for count in FACES:
        results[f'track, {count}'] = event_ms(_tracking(networks, count), runs)
    return results


def _tracking(networks: Networks, count: int) -> Callable[[], object]:
    """A call per image of a stream with a number of faces."""
    estimator, camera = FacePoseEstimator(networks=networks), camera_of(WIDTH, HEIGHT)
    images = drifting(faces_in(WIDTH, HEIGHT, count), 16)
    frames = [torch.from_numpy(image).to(estimator.device) for image in images]
    stamps = iter(range(1_000_000))

    def track() -> object:
        i = next(stamps)
        return estimator.track(frames[i % len(frames)], camera, i / 30)

    return track


def table(
    times: dict[str, dict[str, float]] | None, peak: Sequence[float] | None
) -> dict[str, dict[str, float]]:
    """Work, least time and measured times by stage, and print them.

    Args:
        times: Of `device_path`; None without a GPU.
        peak: The GPU's bandwidth [GB/s] and its float16 peak [TFLOP/s]; None if unknown.
    """
    results: dict[str, dict[str, float]] = {}
    for name, each in work().items():
        results[name] = {'gflop': each.flops / 1e9, 'mb': 2 * each.numbers / 1e6}
        if peak:
            results[name]['least_ms'] = each.least_ms(*peak, number_bytes=2)
    for name, found in (times or {}).items():
        results[name] = results.get(name, {}) | found
    formats = {
        'gflop': '9.2f',
        'mb': '9.0f',
        'least_ms': '9.3f',
        'p50_ms': '9.3f',
        'p95_ms': '9.3f',
    }
    print(f'{"on the GPU, float16":<28}', *(f'{key:>9}' for key in formats), sep='')
    for name, row in results.items():
        cells = (
            f'{row[key]:{as_}}' if key in row else f'{"-":>9}' for key, as_ in formats.items()
        )
        print(f'{name:<28}', *cells, sep='')
    if times is None:
        print('No GPU was measured: add --device cuda:0.')
    return results
