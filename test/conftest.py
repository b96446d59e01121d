# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

import os
import zlib

import numpy as np
import pytest

# Else the messages' classes take an int where a float is declared, and 5e-324 is sent.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'


@pytest.fixture
def rng(request):
    """Random numbers that depend on the test's name alone, so that order changes nothing."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def generator(request):
    """The same for torch."""
    torch = pytest.importorskip('torch', reason='needs pip install torch')
    torch.set_num_threads(2)  # more would only add noise
    return torch.Generator().manual_seed(zlib.crc32(request.node.nodeid.encode()))
