# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the stacked hourglass.

    python -m face_pose_lab.training.train lab/config/hourglass.yaml key=value group.key=value
    torchrun --nproc-per-node 2 -m face_pose_lab.training.train lab/config/hourglass.yaml ...

A training resumes from the newest checkpoint of its folder, with the same result to the last bit.
`--resume FILE` starts from any checkpoint, with other losses, augmentation and optimiser if
wanted. A new training may start with the layers of another network: `initial=CHECKPOINT`, or
`initial=lab/face_pose_lab/weights/hourglass.safetensors`. An interrupt (SIGINT, SIGTERM) writes a
checkpoint after the current step.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.checkpoints import (
    CheckpointError,
    checkpoints,
    load_beginning,
    load_checkpoint,
    save_checkpoint,
)
from face_pose_lab.training.config import (
    ConfigError,
    OptimiserOptions,
    TrainConfig,
    config_to_dict,
    load_config,
)
from face_pose_lab.training.ema import AveragedNetwork
from face_pose_lab.training.export import commit_of_code
from face_pose_lab.training.hourglass_task import HourglassTask, make_task
from face_pose_lab.training.journal import Journal
from face_pose_lab.training.shards import ShardError

# Keys that may differ between a checkpoint's configuration and a resumed training's.
_MAY_CHANGE = {
    'out', 'device', 'data', 'log_every', 'validate_every', 'checkpoint_every', 'keep_checkpoints',
    'steps', 'initial',
}  # fmt: skip


class Training:
    """State and steps of a training."""

    def __init__(self, config: TrainConfig, task: HourglassTask) -> None:
        """Start from random weights.

        Args:
            config: Of the run.
            task: Its network gets random weights, which depend on the seed.
        """
        self.config = config
        self.task = task
        self.rank, self.world = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        )
        self.step = 0
        self._initial: dict[str, Any] | None = None
        self.network = task.network.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedNetwork(self.network, config.optimiser.ema_decay)
        self.optimiser = torch.optim.AdamW(
            _parameter_groups(self.network, config.optimiser.weight_decay),
            lr=config.optimiser.learning_rate,
        )
        # Statistics of batch normalisation are those of the first process.
        self._parallel: nn.Module = (
            DistributedDataParallel(self.network) if self.world > 1 else self.network
        )
        self._upcoming: Iterator[tuple[int, Any]] | None = None

    def begin_with(self, path: Path) -> None:
        """Copy the averaged weights of the layers that another network has too.

        Args:
            path: See `load_beginning`.

        Raises:
            CheckpointError: The file is missing, or it has no common layer.
        """
        other, history = load_beginning(path)
        own = self.network.state_dict()
        shared = {
            name: value
            for name, value in other.items()
            if name in own and own[name].shape == value.shape
        }
        if all(value.ndim < 2 for value in shared.values()):
            raise CheckpointError(f'{path}: no layer of its network is one of the new network')
        self.network.load_state_dict(shared, strict=False)
        self.average = AveragedNetwork(self.network, self.config.optimiser.ema_decay)
        self._initial = history

    def run_step(self) -> dict[str, float]:
        """One step of the optimiser; the terms of the loss and the length of the gradient."""
        config = self.config
        self._parallel.train()
        for group in self.optimiser.param_groups:
            group['lr'] = learning_rate(self.step, config.steps, config.optimiser)
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for part in range(config.accumulate):
            last = part == config.accumulate - 1
            with nullcontext() if last or self.world == 1 else self._parallel.no_sync():  # type: ignore[operator]
                losses = self._losses()
                loss = torch.stack(list(losses.values())).sum() / config.accumulate
                loss.backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / config.accumulate
        parameters = self.network.parameters()
        norm = nn.utils.clip_grad_norm_(parameters, config.optimiser.clip_norm)
        if not math.isfinite(float(norm)):
            raise FloatingPointError(f'the gradient of step {self.step} is not finite: {sums}')
        self.optimiser.step()
        self.average.update(self.network, self.step)
        self.step += 1
        return sums | {'gradient': float(norm)}

    def _numbers(self) -> Iterator[int]:
        """Numbers of this process's micro-batches, from the current step on."""
        config = self.config
        for step in range(self.step, config.steps):
            first = ((0 if config.overfit_one_batch else step) * self.world + self.rank) * (
                config.accumulate
            )
            yield from range(first, first + config.accumulate)

    def _losses(self) -> dict[str, Tensor]:
        """Losses of the next micro-batch, whose number gives its images and augmentation."""
        config = self.config
        if self._upcoming is None:
            numbered = _NumberedBatches(self.task)
            workers = config.data.workers
            loader = DataLoader(numbered, None, sampler=self._numbers(), num_workers=workers)
            self._upcoming = iter(loader)
        number, batch = next(self._upcoming)
        batch = batch.to(config.device)
        generator = torch.Generator(config.device).manual_seed((config.seed << 40) + number)
        return self.task.losses(self._parallel, batch, generator, self.step)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, except the configuration's data."""
        return {
            'network': self.network.state_dict(),
            'average': self.average.network.state_dict(),
            'optimiser': self.optimiser.state_dict(),
            'extra': self.task.extra_state(),
            'config': config_to_dict(self.config),
            'world': self.world,
            'commit': commit_of_code(),
            'initial': self._initial,
        }

    def restore(self, state: dict[str, Any], branch: bool = False) -> None:
        """Resume from a checkpoint.

        Args:
            state: What `load_checkpoint` read.
            branch: Require the same network only.

        Raises:
            CheckpointError: It is of a training with another configuration.
        """
        now = json.loads(json.dumps(config_to_dict(self.config)))
        before = json.loads(json.dumps(state['config']))
        changed = [
            key for key in sorted((set(now) | set(before)) - _MAY_CHANGE)
            if now.get(key) != before.get(key)
        ]  # fmt: skip
        if changed and not (branch and 'hourglass' not in changed):
            raise CheckpointError(
                f'the checkpoint is of a training with another {", ".join(changed)}; give that, '
                'or another folder to start anew'
            )
        self.step = state['step']
        self._initial = state.get('initial')
        self._upcoming = None
        self.network.load_state_dict(state['network'])
        self.average.network.load_state_dict(state['average'])
        self.optimiser.load_state_dict(state['optimiser'])


class _NumberedBatches(Dataset):
    """The micro-batches of a task and their numbers."""

    def __init__(self, task: HourglassTask) -> None:
        self._task = task

    def __getitem__(self, number: int) -> tuple[int, Any]:
        return number, self._task.batch(number)


def learning_rate(step: int, steps: int, options: OptimiserOptions) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / max(options.warmup_steps, 1))
    fall = 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
    return options.learning_rate * warm * (0.01 + 0.99 * fall)


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and the scales of normalisations are not decayed."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {'params': matrices, 'weight_decay': weight_decay},
        {'params': vectors, 'weight_decay': 0.0},
    ]


def train(training: Training, journal: Journal) -> None:
    """Run until the configured step, or until an interrupt; write checkpoints and figures."""
    with _noted_signals() as stop:
        _train(training, journal, stop)


def _train(training: Training, journal: Journal, stop: list[int]) -> None:
    config = training.config
    out = Path(config.out)
    first, since = training.step, time.monotonic()
    while training.step < config.steps:
        figures = training.run_step()
        step = training.step
        done = step == config.steps or _any_process(bool(stop), training)
        if step % config.log_every == 0:
            pictures = (step - first) * config.batch * config.accumulate * training.world
            rate = pictures / (time.monotonic() - since)
            journal.write(step, figures | {'pictures_per_s': rate})
            first, since = step, time.monotonic()
        if training.rank == 0:
            if step % config.checkpoint_every == 0 or done:
                save_checkpoint(out, step, training.state(), config.keep_checkpoints)
            if step % config.validate_every == 0 or step == config.steps:
                journal.write(step, _summary(training.task.validate(training.average.network)))
                first, since = step, time.monotonic()
        if done:
            break


def _any_process(flag: bool, training: Training) -> bool:
    """Whether the flag is set anywhere: all processes must stop after the same step."""
    if training.world == 1:
        return flag
    flags = torch.tensor(int(flag), device=training.config.device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def _summary(tables: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """The figures of all pictures of each data set."""
    return {f'{name}/{k}': v for name, rows in tables.items() for k, v in rows['all'].items()}


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """A list of received signals, SIGINT or SIGTERM."""
    received: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = {n: signal.signal(n, remember) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            # None: a handler that is not Python's and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def main(args: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path, help='YAML file, see lab/config')
    parser.add_argument('override', nargs='*', help='key=value or group.key=value')
    parser.add_argument('--resume', type=Path, help='checkpoint to go on from')
    parser.add_argument('--threads', type=int, help='CPU threads; as many as torch likes')
    options = parser.parse_intermixed_args(args)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        config = load_config(options.config, options.override)
        if dist.is_torchelastic_launched():
            dist.init_process_group('nccl' if config.device.startswith('cuda') else 'gloo')
        state = None
        source = options.resume or (Path(config.out) if checkpoints(Path(config.out)) else None)
        if source is not None:
            state = load_checkpoint(source)
        training = Training(config, make_task(config, state and state['extra']))
        if state is not None:
            training.restore(state, branch=options.resume is not None)
        elif config.initial:
            training.begin_with(Path(config.initial))
        journal = Journal(Path(config.out), training.step, active=training.rank == 0)
        train(training, journal)
    except (ConfigError, DataError, ShardError, CheckpointError) as error:
        parser.error(str(error))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == '__main__':
    main()
