# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""benchmarks/latency.py without a GPU: counted work and timed calls."""

import json

import device_path
import latency
import numpy as np
import pytest
import torch
from device_path import Work, work, work_of
from torch import nn

from face_pose_ros.engines.networks import load_networks
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network


class TwoConvolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.each = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)

    def forward(self, x):
        return self.each(self.wide(x).relu())


@pytest.mark.parametrize('count', [1, 5])
def test_work_of_two_convolutions(count):
    cells = count * 16 * 20
    found = work_of(TwoConvolutions(), torch.zeros(count, 3, 16, 20))
    assert found.flops == 2 * 9 * cells * (3 * 8 + 8)
    assert found.numbers == (8 * 27 + 8 + 8 * 9) + 3 * cells + 2 * (8 + 8) * cells


def test_the_slower_of_memory_and_arithmetic_counts():
    assert Work(10**12, 10**9).least_ms(4000, 100, number_bytes=2) == pytest.approx(10)
    assert Work(10**12, 10**9).least_ms(1000, 1000, number_bytes=2) == pytest.approx(2)


def test_work_of_many_faces_is_that_of_a_batch():
    batch = work_of(packaged_keypoint_network(), device_path.crops(16))
    assert work()['keypoints, 16'] == batch


def test_events_are_taken_around_each_call(monkeypatch):
    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.calls = len(calls)

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            assert end.calls == self.calls + 1
            return float(end.calls)

    calls = []
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    found = device_path.event_ms(lambda: calls.append(None), runs=3)
    assert found['p50_ms'] == 12  # of 11, 12 and 13
    assert len(calls) == 13


def test_without_a_gpu_work_is_printed_and_that_there_is_none(capsys, tmp_path):
    latency.main(['--gpu', '1000', '100', '--json', str(tmp_path / 'gpu.json')])
    assert capsys.readouterr().out.endswith('No GPU was measured: add --device cuda:0.\n')
    row = json.loads((tmp_path / 'gpu.json').read_text())['results']['keypoints, 64']
    assert row['least_ms'] == pytest.approx(row['gflop'] / 100)  # arithmetic is the slower one
    assert row['gflop'] > 5
    with pytest.raises(SystemExit):
        latency.main(['--gpu', '1000'])
    assert 'takes no number or two, got 1' in capsys.readouterr().err


def test_everything_that_is_timed_runs(monkeypatch, capsys):
    for name, value in {'FACES': (1, 2), 'WIDTH': 640, 'HEIGHT': 360}.items():
        monkeypatch.setattr(device_path, name, value)
    monkeypatch.setattr(
        device_path, 'load_networks', lambda device: load_networks(device, 'torch')
    )
    results = []
    monkeypatch.setattr(device_path, 'event_ms', lambda call, runs: results.append(call()) or {})
    device_path.table(device_path.device_path('cpu', 1), None)
    assert [len(faces) for faces in results[-2:]] == [1, 2]
    assert 'track, 2' in capsys.readouterr().out


def test_cameras_at_once():
    found = latency.cameras_ms('cpu', 2, runs=1)
    assert found['faces'] == 2
    assert 0 < found['p5_ms'] <= found['p50_ms'] <= found['p95_ms']
    assert np.isfinite(found['p95_ms'])
