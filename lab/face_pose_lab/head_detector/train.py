# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Train the head detector on composed images.

    python -m face_pose_lab.head_detector.train --out RUN --assets ASSETS --crops FOLDER \
        --chips FOLDER --turned FOLDER --scenes FOLDER

The same command goes on from RUN's newest state. The learning rate falls to nothing over --steps;
--resume FILE begins another descent from a state. The images of a step depend on the seed, the
step and the data alone. SIGTERM and SIGINT end after the current step, with a state. Of several
processes (`optimisation`) the first one writes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from face_pose_lab.head_detector.losses import LossOptions, losses
from face_pose_lab.head_detector.sources import (
    Backgrounds,
    Chips,
    Crops,
    Scenes,
    Source,
    panoramas,
)
from face_pose_lab.head_detector.targets import Targets, joined, targets_of_image
from face_pose_lab.head_detector.windows import SIDE_PX, Material, draw_window
from face_pose_lab.optimisation import (
    Optimiser,
    ignore_stop_requests,
    join_processes,
    rank_and_processes,
    save,
    shared_gradients,
    stop_requests,
    update_average,
)
from face_pose_lab.training.heads.assets import MissingAssetError
from face_pose_lab.training.shards import ShardError
from face_pose_ros.networks.head_detector import HeadDetectorNetwork
from face_pose_ros.pose.face_model import deformable_face

_EMA_STEPS = 500  # the average's memory
_WARM_UP = 100  # steps
_SHARES = 0.45, 0.45, 0.1  # of rendered crops, chips, turned chips among pasted heads
_POINTS = 8  # every so many-th point of the face enters the loss


@dataclass(frozen=True)
class Options:
    """Of a training; a state holds those of the run that wrote it."""

    batch: int = 16
    lr: float = 1.5e-3
    weight_decay: float = 1e-2
    seed: int = 0
    first: int = 0  # step at which the descent began
    steps: int = 10000  # of the descent


class Batch(NamedTuple):
    """Images and their targets."""

    images: Tensor  # (B, 3, 256, 256) uint8
    targets: Targets


class Batches(torch.utils.data.IterableDataset):
    """Batches from a step on, the steps shared among workers."""

    def __init__(self, material: Material, options: Options, first: int) -> None:
        self.material, self.options, self.first = material, options, first
        self.rank, self.processes = rank_and_processes()

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        worker = torch.utils.data.get_worker_info()
        if worker:
            ignore_stop_requests()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self.first + number
        while True:
            yield make_batch(self.material, self.options, self.processes * step + self.rank)
            step += count


def make_batch(material: Material, options: Options, number: int) -> Batch:
    """The images of a number, and their targets."""
    rng = np.random.default_rng((options.seed, number))
    windows = [draw_window(material, rng) for _ in range(options.batch)]
    images = torch.from_numpy(np.stack([image for image, _ in windows])).permute(0, 3, 1, 2)
    return Batch(images, joined([targets_of_image(h, SIDE_PX, SIDE_PX) for _, h in windows]))


def is_hidden(name: str) -> bool:
    """Whether a parameter maps features to features."""
    return not name.startswith(('stem.0.', 'last.'))


def learning_rate(step: int, options: Options) -> float:
    """Warm-up, then linear to nothing."""
    done = (step - options.first) / options.steps
    warm = min(1.0, (step - options.first + 1) / _WARM_UP)
    return options.lr * (warm * max(1 - done, 0.0) + 1e-3)


def train(
    out: Path, material: Material, options: Options, state: dict[str, Any] | None, workers: int
) -> None:
    """Run to the end of the descent."""
    torch.manual_seed(options.seed)
    network, average = HeadDetectorNetwork(), HeadDetectorNetwork()
    if state is not None:
        network.load_state_dict(state['network'])
        average.load_state_dict(state['average'])
    else:
        average.load_state_dict(network.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.requires_grad_(False)
    optimiser = Optimiser(network, is_hidden, options.lr, options.weight_decay)
    if state is not None:
        optimiser.load(state.get('optimiser', ()))
    step = state.get('step', 0) if state else 0
    seen = state.get('images', 0) if state else 0
    stop = stop_requests()
    loader = iter(
        torch.utils.data.DataLoader(
            Batches(material, options, step),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
    )
    rank, processes = rank_and_processes()
    xyz_head = torch.from_numpy(deformable_face().xyz_head[::_POINTS]).float()
    sums: dict[str, float] = {}
    summed, began, first = 0, time.time(), step
    weights, over = LossOptions(), False

    def state_now() -> dict[str, Any]:
        return {
            'network': network.state_dict(),
            'average': average.state_dict(),
            'optimiser': optimiser.state(),
            'step': step,
            'images': seen + (step - first) * options.batch * processes,
            'options': vars(options),
        }

    while step < options.first + options.steps and not over:
        network.train()
        batch = next(loader)
        images = (batch.images.float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast('cpu', torch.bfloat16):
            outputs = network(images)
        terms = losses(outputs, batch.targets, xyz_head, weights)
        network.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        over = shared_gradients(list(network.parameters()), bool(stop))
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step(learning_rate(step, options))
        step += 1
        summed += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        update_average(average, network, step - options.first, _EMA_STEPS)
        if rank:
            continue
        if step % 100 == 0:
            row: dict[str, Any] = {name: round(v / summed, 4) for name, v in sums.items()}
            row |= {
                'step': step,
                'images': seen + (step - first) * options.batch * processes,
                'per_s': round((step - first) * options.batch * processes / (time.time() - began)),
                'lr': learning_rate(step, options),
                'time': time.strftime('%H:%M:%S'),
            }
            sums.clear()
            summed = 0
            print(json.dumps(row), flush=True)
            with (out / 'log.jsonl').open('a') as log:
                log.write(json.dumps(row) + '\n')
        if step % 500 == 0:
            save(state_now(), out / 'last.pt')
    if not rank:
        save(state_now(), out / 'last.pt')


def main(args: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the states')
    parser.add_argument('--assets', type=Path, required=True, help='with hdri/*.hdr')
    parser.add_argument('--crops', type=Path, nargs='+', required=True, help='rendered heads')
    parser.add_argument('--chips', type=Path, required=True, help='of `label_chips`')
    parser.add_argument('--turned', type=Path, nargs='+', help='chips of `keypoint_net.profiled`')
    parser.add_argument('--scenes', type=Path, nargs='+', help='rendered scenes')
    parser.add_argument('--resume', type=Path, help='state to branch from')
    parser.add_argument('--steps', type=int, default=Options.steps, help='of the descent')
    parser.add_argument('--lr', type=float, default=Options.lr)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=1)
    chosen = parser.parse_args(args)
    torch.set_num_threads(1)
    join_processes()
    chosen.out.mkdir(parents=True, exist_ok=True)
    last = chosen.out / 'last.pt'
    path = last if last.is_file() else chosen.resume
    state = torch.load(path, weights_only=True) if path else None
    first = state['step'] if state else 0
    if state and last.is_file():
        first = state['options']['first']
    options = Options(lr=chosen.lr, seed=chosen.seed, steps=chosen.steps, first=first)
    try:
        backgrounds = Backgrounds(panoramas(chosen.assets))
        heads: list[tuple[Source, float]] = [
            (Crops(chosen.crops), _SHARES[0]),
            (Chips(chosen.chips), _SHARES[1]),
        ]
        if chosen.turned:
            heads.append((Crops(chosen.turned), _SHARES[2]))
        scenes = Scenes(chosen.scenes) if chosen.scenes else None
    except (MissingAssetError, ShardError) as error:
        parser.error(str(error))
    print(*(f'{len(s)} of {share:.0%}' for s, share in heads), len(scenes or ()), flush=True)
    material = Material(tuple(heads), scenes, backgrounds)
    train(chosen.out, material, options, state, chosen.workers)


if __name__ == '__main__':
    main()
