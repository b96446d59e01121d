# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the training tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks of a few thousand weights gain nothing from a second one, and wait for it."""
    torch.set_num_threads(1)
