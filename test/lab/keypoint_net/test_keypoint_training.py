# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A training goes on where it was, and several processes train as one."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
from face_pose_lab.keypoint_net.train import rank_and_processes, shared_gradients
from torch import nn


def _worker(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        'RANK': str(rank),
        'WORLD_SIZE': '2',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
    }
    dist.init_process_group('gloo')
    weights = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))]
    stops = []
    for step in range(2):
        for i, weight in enumerate(weights):
            weight.grad = torch.full_like(weight, float(10 * rank + i))
        stops.append(shared_gradients(weights, stop=rank == 1 and step == 1))
    assert rank_and_processes() == (rank, 2)
    torch.save({'gradients': [w.grad for w in weights], 'stops': stops}, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


def test_gradients_are_the_mean_and_one_stop_is_for_all(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context('spawn')
    workers = [
        context.Process(target=_worker, args=(rank, port, str(tmp_path))) for rank in (0, 1)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    for rank in (0, 1):
        said = torch.load(tmp_path / f'{rank}.pt', weights_only=True)
        torch.testing.assert_close(said['gradients'][0], torch.full((3, 2), 5.0))
        torch.testing.assert_close(said['gradients'][1], torch.full((4,), 6.0))
        assert said['stops'] == [False, True]


def test_alone_there_is_nothing_to_share() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    assert rank_and_processes() == (0, 1)
    assert shared_gradients([weight], stop=True) is True
    assert shared_gradients([weight], stop=False) is False
    torch.testing.assert_close(weight.grad, torch.ones(2))
