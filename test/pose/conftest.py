"""Faces that the tests of the optimiser share."""

import pytest
import torch
from helpers.scene import wavy_face

from face_pose_ros.pose.face_model import canonical_face


@pytest.fixture(scope='session')
def rigid():
    """A face of known shape: without any mode."""
    return canonical_face().keep('none of them')


@pytest.fixture(scope='session')
def wavy():
    """A deformable face."""
    return wavy_face()


@pytest.fixture(autouse=True)
def _one_thread(_two_threads):
    """Matrices this small gain nothing from a second one, and lose much on a busy machine."""
    torch.set_num_threads(1)
