# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

import zlib

import numpy as np
import pytest


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
