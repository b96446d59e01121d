# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""At the first start helper processes compile in parallel to the main process."""

import os
import subprocess
import sys

import pytest

from face_pose_ros import first_start

COLD = """
from numba.core import event

from face_pose_ros import FacePoseEstimator, first_start
from face_pose_ros.engines.network import Network
from face_pose_ros.engines.networks import Networks

estimator = FacePoseEstimator(networks=Networks('cpu', Network(), Network()))
first_start.wait()
with event.install_recorder('numba:compile') as recorder:
    estimator._fit_mean_face()
    estimator._track_mean_face()
for _, compiling in recorder.buffer:
    print(compiling.data['dispatcher'].py_func.__module__)
"""


@pytest.fixture
def beginning(monkeypatch):
    """Commands of the helpers that `begin` starts, with nothing in the cache and two cores."""
    commands, popen = [], subprocess.Popen

    def start(command, **options):
        commands.append(command)
        return popen([sys.executable, '-c', 'pass'], **options)

    monkeypatch.setattr(first_start, '_helpers', [])
    monkeypatch.setattr(first_start.os, 'sched_getaffinity', lambda _: {0, 1})
    monkeypatch.setattr(first_start, 'can_be_compiled_ahead', lambda _: True)
    monkeypatch.setattr(first_start.subprocess, 'Popen', start)
    yield commands
    first_start.wait()


def test_each_helper_is_started_once_and_waited_for(beginning):
    first_start.begin()
    first_start.begin()
    assert [command[-1].split('(')[-1] for command in beginning] == ["'poses')", "'tracking')"]
    first_start.wait()
    assert [helper.returncode for helper in first_start._helpers] == [0, 0]


def test_nothing_is_started_where_all_is_compiled_or_there_is_one_core(beginning, monkeypatch):
    monkeypatch.setattr(first_start.os, 'sched_getaffinity', lambda _: {0})
    first_start.begin()
    monkeypatch.setattr(first_start, '_helpers', [])
    monkeypatch.setattr(first_start.os, 'sched_getaffinity', lambda _: {0, 1})
    monkeypatch.setattr(first_start, 'can_be_compiled_ahead', lambda _: False)
    first_start.begin()
    assert beginning == []


def test_a_helper_ends_with_the_process_that_started_it(tmp_path):
    process = subprocess.Popen(
        first_start.command('poses'),
        stdin=subprocess.PIPE,
        env={**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)},
    )
    process.stdin.close()  # as the end of that process does
    assert process.wait(timeout=60) == 1


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason='helpers need a second core')
def test_what_helpers_have_compiled_is_not_compiled_again(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', COLD],
        env={**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    parts = {module.split('.')[1] for module in done.stdout.split()}
    assert not parts & {'pose', 'tracking'}
    assert list(tmp_path.rglob('*.nbi'))
