# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The loop of the trainings of keypoint network and head detector.

A state holds all that the next step depends on but the data. SIGTERM and SIGINT end after the
current step, with a state. Of several processes (`optimisation`) the first one writes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import torch
from torch import Tensor, nn

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

_LOG_EVERY, _SAVE_EVERY, _VALIDATE_EVERY, _KEEP_EVERY = 100, 500, 1000, 5000  # steps
_PREFETCHED = 4  # batches of a worker

Batch = TypeVar('Batch')


@dataclass(frozen=True)
class Recipe(Generic[Batch]):
    """What the loop does in each step."""

    make_network: Callable[[], nn.Module]
    is_hidden: Callable[[str], bool]  # see `Optimiser`
    make_batch: Callable[[int], Batch]  # of a number
    terms: Callable[[nn.Module, Batch], Mapping[str, Tensor]]  # of the loss, weighted
    learning_rate: Callable[[int], float]  # of a step
    end: int  # step
    pictures: int  # of a batch that count in the log
    weight_decay: float
    clip_norm: float  # of the gradient
    average_steps: int  # memory of the average of the weights
    average_from: int  # step
    seed: int
    options: Mapping[str, Any]  # for the states
    validate: Callable[[nn.Module], Mapping[str, Any]] = lambda _: {}  # of the average


class Batches(torch.utils.data.IterableDataset):
    """The batches from a step on; processes and workers take turns."""

    def __init__(self, make_batch: Callable[[int], Any], first: int) -> None:
        self.make_batch, self.first = make_batch, first
        self.rank, self.processes = rank_and_processes()

    def __iter__(self) -> Iterator[Any]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        worker = torch.utils.data.get_worker_info()
        if worker:
            ignore_stop_requests()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self.first + number
        while True:
            yield self.make_batch(self.processes * step + self.rank)
            step += count


def begin(out: Path, resume: Path | None, threads: int = 1) -> dict[str, Any] | None:
    """Join the other processes; returns the newest state in `out`, else that of `resume`."""
    torch.set_num_threads(threads)
    join_processes()
    out.mkdir(parents=True, exist_ok=True)
    last = out / 'last.pt'
    path = last if last.is_file() else resume
    return torch.load(path, weights_only=True) if path else None


def as_input(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 as float in [0, 1], channels last."""
    return (pictures.float() / 255).contiguous(memory_format=torch.channels_last)


def train(recipe: Recipe, out: Path, state: Mapping[str, Any] | None, workers: int) -> None:
    """Train until the recipe's end or a signal.

    Args:
        recipe: Of the training.
        out: Folder of the states and of log.jsonl.
        state: To go on from.
        workers: Processes that make batches; 0: this one.
    """
    torch.manual_seed(recipe.seed)
    network, average = recipe.make_network(), recipe.make_network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.load_state_dict(network.state_dict())
    average.requires_grad_(False)
    step, pictures = (state['step'], state['pictures']) if state else (0, 0)
    lr = recipe.learning_rate(step)
    optimiser = Optimiser(network, recipe.is_hidden, lr, recipe.weight_decay)
    if state is not None:
        network.load_state_dict(state['network'])
        average.load_state_dict(state['average'])
        optimiser.load(state.get('optimisers', ()))
    stop = stop_requests()
    rank, processes = rank_and_processes()
    prefetched = _PREFETCHED if workers else None
    batches = iter(
        torch.utils.data.DataLoader(
            Batches(recipe.make_batch, step),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=prefetched,
        )
    )
    log = _Log(out / 'log.jsonl')
    over = False
    while step < recipe.end and not over:
        network.train()
        terms = recipe.terms(network, next(batches))
        network.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        over = shared_gradients(list(network.parameters()), bool(stop))
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimiser.step(recipe.learning_rate(step))
        step += 1
        pictures += recipe.pictures * processes
        update_average(average, network, step - recipe.average_from, recipe.average_steps)
        if rank:
            continue
        log.add(terms, recipe.pictures * processes)
        last = over or step == recipe.end
        if step % _LOG_EVERY == 0 or last:
            row: dict[str, Any] = {'step': step, 'pictures': pictures}
            row['lr'] = recipe.learning_rate(step)
            if step % _VALIDATE_EVERY == 0 or step == recipe.end:
                row.update(recipe.validate(average))
            log.write(row)
        if step % _SAVE_EVERY == 0 or last:
            whole = {
                'network': network.state_dict(),
                'average': average.state_dict(),
                'optimisers': optimiser.state(),
                'step': step,
                'pictures': pictures,
                'options': dict(recipe.options),
            }
            save(whole, out / 'last.pt')
            if step % _KEEP_EVERY == 0:
                save(whole, out / f'{step:07d}.pt')


class _Log:
    """Means of the loss's terms and the speed since the last row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps, self._pictures, self._since_s = 0, 0, time.monotonic()

    def add(self, terms: Mapping[str, Tensor], pictures: int) -> None:
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._steps += 1
        self._pictures += pictures

    def write(self, row: Mapping[str, Any]) -> None:
        means = {name: round(total / self._steps, 4) for name, total in self._sums.items()}
        per_s = round(self._pictures / (time.monotonic() - self._since_s))
        text = json.dumps({**means, **row, 'per_s': per_s, 'time': time.strftime('%H:%M:%S')})
        print(text, flush=True)
        with self._path.open('a') as file:
            file.write(text + '\n')
        self._clear()
