# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A stopped training goes on as if it had not been stopped; processes share the batches."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from face_pose_lab import training_loop as module
from face_pose_lab.training_loop import Batches, Recipe, train
from torch import nn


def batch_of(number):
    return torch.rand(4, 3, generator=torch.Generator().manual_seed(number))


def terms(network, batch):
    error = network(batch) - batch.sum(1, keepdim=True)
    return {'square': error.square().mean(), 'size': 0.1 * error.abs().mean()}


RECIPE = Recipe(
    make_network=lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 1)),
    is_hidden=lambda name: name.startswith('1.'),
    make_batch=batch_of,
    terms=terms,
    learning_rate=lambda step: 0.02,
    end=200,
    pictures=4,
    weight_decay=0.0,
    clip_norm=10.0,
    average_steps=20,
    average_from=0,
    seed=3,
    options={'lr': 0.02},
    validate=lambda network: {'test': {'weights': sum(w.numel() for w in network.parameters())}},
)


class AfterSteps:
    """A list of signals that has one after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def __bool__(self):
        self.left -= 1
        return self.left <= 0


def run(folder, monkeypatch, state=None, stop_after=999, recipe=RECIPE):
    """The state that a training leaves."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(module, 'stop_requests', lambda: AfterSteps(stop_after))
    train(recipe, folder, state, workers=0)
    return torch.load(folder / 'last.pt', weights_only=True)


def test_a_stopped_training_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    through = run(tmp_path / 'through', monkeypatch)
    stopped = run(tmp_path / 'stopped', monkeypatch, stop_after=70)
    assert (stopped['step'], stopped['pictures']) == (70, 280)
    torch.manual_seed(99)  # what else was drawn meanwhile must not matter
    resumed = run(tmp_path / 'stopped', monkeypatch, stopped)
    assert (resumed['step'], resumed['pictures']) == (through['step'], 800) == (200, 800)
    assert resumed['options'] == {'lr': 0.02}
    for name in ('network', 'average'):
        for key, value in through[name].items():
            assert torch.equal(resumed[name][key], value), key


def test_a_state_is_resumed_with_a_rate_that_begins_at_its_step(tmp_path, monkeypatch):
    stopped = run(tmp_path / 'first', monkeypatch, stop_after=70)
    again = replace(RECIPE, learning_rate=lambda step: 1e-4 * (step - 69))  # below 0 before
    resumed = run(tmp_path / 'again', monkeypatch, stopped, recipe=again)
    assert resumed['step'] == 200


def test_the_log_has_the_terms_the_speed_and_at_the_end_a_validation(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch)
    rows = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == [100, 200]
    assert rows[1]['square'] < 0.2 * rows[0]['square']
    assert all(row['per_s'] > 0 and row['lr'] == 0.02 and row['size'] > 0 for row in rows)
    assert [row.get('test') for row in rows] == [None, {'weights': 56}]


def test_an_average_that_begins_later_follows_faster_at_first(tmp_path, monkeypatch):
    begun = run(tmp_path / 'begun', monkeypatch, stop_after=50)
    away = {}
    for begins in (0, 50):
        recipe = replace(RECIPE, average_from=begins, average_steps=1000, end=60)
        state = run(tmp_path / str(begins), monkeypatch, begun, recipe=recipe)
        pairs = zip(state['network'].values(), state['average'].values(), strict=True)
        away[begins] = sum(float((a - b).square().sum()) for a, b in pairs)
    assert away[50] < 0.5 * away[0]


@pytest.mark.parametrize(('rank', 'processes', 'first', 'numbers'), [
    (0, 1, 0, [0, 1, 2]),
    (0, 1, 4, [4, 5, 6]),
    (1, 2, 1, [3, 5, 7]),
])  # fmt: skip
def test_processes_and_resumed_trainings_share_the_same_batches(
    monkeypatch, rank, processes, first, numbers
):
    monkeypatch.setattr(module, 'rank_and_processes', lambda: (rank, processes))
    batches = list(islice(iter(Batches(batch_of, first)), 3))
    assert all(torch.equal(a, batch_of(n)) for a, n in zip(batches, numbers, strict=True))
