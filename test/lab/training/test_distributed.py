# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two processes train what one does with twice the micro-batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lab.training.test_train import gradients, make_config, make_training, parameters

TEST = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_are_one_that_accumulates_two(tmp_path):
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2']
    command += ['--master-port', '0', '--rdzv-backend', 'c10d', '--rdzv-endpoint', 'localhost:0']
    command += [str(Path(__file__).with_name('ddp_worker.py')), str(tmp_path)]
    paths = [str(TEST), str(TEST.parent), os.environ.get('PYTHONPATH', '')]
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(paths), 'OMP_NUM_THREADS': '1'}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    ranks = [torch.load(tmp_path / f'rank_{rank}.pt', weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(*ranks, strict=True))
    gradient, after = ranks[0]
    alone = make_training(make_config(tmp_path, steps=4, accumulate=2))
    start = parameters(alone)
    alone.run_step()
    assert (gradients(alone) - gradient).norm() < 1e-5 * gradient.norm()
    for _ in range(3):
        alone.run_step()
    # Adam's first steps turn the rounding of the smallest gradients into whole steps.
    assert (parameters(alone) - after).norm() < 0.03 * (parameters(alone) - start).norm()
