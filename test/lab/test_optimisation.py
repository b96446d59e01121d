# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Optimisers that go on where they were, averages, and processes that train as one."""

from __future__ import annotations

import copy
import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.head_detector.train import is_hidden as head_detector_hidden
from face_pose_lab.keypoint_net.train import is_hidden as keypoint_hidden
from face_pose_lab.optimisation import (
    Optimiser,
    rank_and_processes,
    save,
    shared_gradients,
    update_average,
)
from torch import nn

from face_pose_ros.networks.head_detector import HeadDetectorNetwork
from face_pose_ros.networks.keypoint_network import KeypointNetwork


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


class Small(nn.Module):
    """Two convolutions and a layer, of which the middle two are hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.hidden = nn.Conv2d(4, 5, 3)
        self.narrow = nn.Conv2d(5, 6, 1, bias=False)
        self.last = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.narrow(self.hidden(self.first(x))).mean((-2, -1)))


def optimised(seed: int = 0) -> tuple[Small, Optimiser]:
    torch.manual_seed(seed)
    network = Small().to(memory_format=torch.channels_last)
    names = ('hidden.', 'narrow.')
    return network, Optimiser(network, lambda name: name.startswith(names), 0.01, 0.1)


def step(network: Small, optimiser: Optimiser) -> None:
    network.zero_grad()
    network(torch.ones(2, 3, 8, 8)).square().sum().backward()
    optimiser.step(0.01)


def test_muon_changes_the_weights_of_the_network_themselves() -> None:
    network, optimiser = optimised()
    assert [tuple(view.shape) for view in optimiser._views] == [(5, 36), (6, 5)]
    for view, weight in zip(optimiser._views, optimiser._weights, strict=True):
        assert view.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    step(network, optimiser)
    for name, weight in network.named_parameters():
        assert not torch.equal(weight, before[name]), name


def test_no_hidden_weight_of_the_networks_is_copied() -> None:
    for network, is_hidden in (
        (HeadDetectorNetwork(), head_detector_hidden),
        (KeypointNetwork(), keypoint_hidden),
    ):
        network.to(memory_format=torch.channels_last)
        optimiser = Optimiser(network, is_hidden, 0.01, 0.1)
        assert len(optimiser._views) > 10
        for view, weight in zip(optimiser._views, optimiser._weights, strict=True):
            assert view.data_ptr() == weight.data_ptr()


def test_an_optimiser_goes_on_from_its_state() -> None:
    network, optimiser = optimised()
    step(network, optimiser)
    weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimiser.state())
    step(network, optimiser)
    other, again = optimised(seed=1)
    other.load_state_dict(weights)
    again.load(state)
    step(other, again)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight)


def test_the_average_follows_soon_and_then_slowly() -> None:
    average, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    nn.init.zeros_(average.weight)
    network.num_batches_tracked += 7
    update_average(average, network, 0, memory=100)
    torch.testing.assert_close(average.weight.detach(), torch.tensor([0.9]))
    assert int(average.num_batches_tracked) == 7
    nn.init.zeros_(average.weight)
    update_average(average, network, 10**6, memory=100)
    torch.testing.assert_close(average.weight.detach(), torch.tensor([0.01]))


def test_states_are_written_whole(tmp_path: Path) -> None:
    save({'step': 3}, tmp_path / 'last.pt')
    assert torch.load(tmp_path / 'last.pt', weights_only=True) == {'step': 3}
    assert [path.name for path in tmp_path.iterdir()] == ['last.pt']
