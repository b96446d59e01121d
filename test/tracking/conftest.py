# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random numbers, a camera and a tracker for simulations."""

import zlib

import numpy as np
import pytest
from tracking.people import camera, new_tracker


@pytest.fixture
def rng(request):
    """Depends on the test's name alone, so that order changes nothing."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def tracker():
    return new_tracker()


@pytest.fixture
def sensor(rng):
    return camera(rng)
