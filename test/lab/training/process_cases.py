# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cases that test_train.py runs in a process of their own."""

import os
import signal

import torch
from face_pose_lab.training.checkpoints import load_checkpoint
from face_pose_lab.training.journal import Journal
from face_pose_lab.training.train import train
from lab.training.test_train import make_config, make_training, parameters


def test_processes_that_read_ahead_change_nothing(tmp_path):
    trained = []
    for workers in (0, 2):
        training = make_training(make_config(tmp_path, data={'workers': workers}))
        for _ in range(3):
            training.run_step()
        trained.append(parameters(training))
    assert torch.equal(*trained)


def test_an_interrupt_ends_with_a_checkpoint(tmp_path):
    training = make_training(make_config(tmp_path))
    run_step = training.run_step

    def interrupted():
        if training.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return run_step()

    training.run_step = interrupted
    train(training, Journal(tmp_path, 0))
    assert load_checkpoint(tmp_path)['step'] == 7
