"""Fixtures shared by all tests."""

import zlib

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _two_threads():
    """The figures are stated for two threads; more would only add noise."""
    torch.set_num_threads(2)


@pytest.fixture
def generator(request):
    """Random numbers that depend on the test's name alone, so that order changes nothing."""
    return torch.Generator().manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def rng(request):
    """The same for numpy."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
