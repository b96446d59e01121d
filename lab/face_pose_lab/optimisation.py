# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Shared by the trainings: two optimisers, average of the weights, several processes, states.

Several processes train together, each with batches of its own, where RANK, WORLD_SIZE, MASTER_ADDR
and MASTER_PORT say so, as torchrun sets them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join_processes() -> None:
    """Wait for the other processes of a training, if there are any."""
    if 'WORLD_SIZE' in os.environ:
        dist.init_process_group('gloo')


def rank_and_processes() -> tuple[int, int]:
    """Rank of this process, and their number."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def shared_gradients(weights: Sequence[Tensor], stop: bool) -> bool:
    """Replace gradients by their mean over all processes; whether any process wants to stop."""
    _, processes = rank_and_processes()
    if processes == 1:
        return stop
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    flat = torch.cat([*(g.flatten() for g in gradients), torch.tensor([float(stop)])])
    dist.all_reduce(flat)
    means = (flat[:-1] / processes).split([g.numel() for g in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return bool(flat[-1] > 0)


def stop_requests() -> list[int]:
    """A list that gets SIGTERM and SIGINT instead of this process."""
    received: list[int] = []
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _: received.append(number))
    return received


def ignore_stop_requests() -> None:
    """In a loader's worker: the training that got the signal too ends its workers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Optimiser:
    """Muon for the weights of hidden convolutions and matrices, AdamW for all others.

    Muon (Jordan et al. 2024, torch.optim.Muon) makes the update of a matrix orthogonal, so that
    all directions learn equally fast. A convolution is the matrix (outputs, inputs of a window);
    its view here shares memory with the network's weight.
    """

    def __init__(
        self,
        network: nn.Module,
        is_hidden: Callable[[str], bool],
        lr: float,
        weight_decay: float,
    ) -> None:
        """Take a network in channels-last memory.

        Args:
            network: To train.
            is_hidden: Whether the parameter of that name maps features to features: neither
                pixels nor outputs.
            lr: Of both.
            weight_decay: Of both.
        """
        hidden = [(w.ndim > 1 and is_hidden(name), w) for name, w in network.named_parameters()]
        self._weights = [weight for is_matrix, weight in hidden if is_matrix]
        self._views = [nn.Parameter(_as_matrix(weight.detach())) for weight in self._weights]
        others = [weight for is_matrix, weight in hidden if not is_matrix]
        self._optimisers = (
            torch.optim.Muon(
                self._views,
                lr,
                weight_decay=weight_decay,
                adjust_lr_fn='match_rms_adamw',  # so that one learning rate serves both
            ),
            torch.optim.AdamW(others, lr, weight_decay=weight_decay, fused=True),
        )

    def step(self, lr: float) -> None:
        """Take the network's gradients, and change its weights."""
        for view, weight in zip(self._views, self._weights, strict=True):
            assert weight.grad is not None
            view.grad = _as_matrix(weight.grad)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group['lr'] = lr
            optimiser.step()

    def state(self) -> list[dict[str, Any]]:
        """For `load`."""
        return [optimiser.state_dict() for optimiser in self._optimisers]

    def load(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on from a state; an empty one is none."""
        for optimiser, saved in zip(self._optimisers, state, strict=False):
            optimiser.load_state_dict(saved)


def _as_matrix(weight: Tensor) -> Tensor:
    if weight.ndim == 2:
        return weight
    # Channels last: what is contiguous there is a view, anything else would be a copy.
    return weight.permute(0, 2, 3, 1).flatten(1)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, memory: int) -> None:
    """Move an exponential average of the weights towards them.

    Args:
        average: Of the weights.
        network: In training.
        step: Steps since the average began.
        memory: Of the average [steps]; it is shorter at the beginning.
    """
    keep = min(1 - 1 / memory, (step + 1) / (step + 10))
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - keep)
        else:
            mean.copy_(value)


def save(state: dict[str, Any], path: Path) -> None:
    """Write whole or not at all."""
    part = path.with_suffix('.part')
    torch.save(state, part)
    os.replace(part, path)
