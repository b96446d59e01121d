# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faces that the tests of the optimiser share."""

from dataclasses import replace

import numpy as np
import pytest

from face_pose_ros.pose.face_model import canonical_face


@pytest.fixture(scope='session')
def rigid():
    """A face of known shape: without any mode."""
    return canonical_face().keep('none of them')


@pytest.fixture(scope='session')
def wavy():
    """The canonical face with six smooth modes of some millimetres."""
    face, rng = canonical_face(), np.random.default_rng(7)
    directions, offsets = rng.random((6, 3, 3)) - 0.5, rng.random((6, 1, 3))
    waves = 0.002 * np.sin(60 * face.xyz_head @ directions + 6 * offsets)
    names = (*(f'identity_{i + 1}' for i in range(5)), 'jaw_open')
    return replace(face, modes=waves, mode_names=names)
