# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tool that fits the semantic head."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from face_pose_ros.pose.face_model import semantic_head

TOOL = Path(__file__).parents[3] / 'lab' / 'tools' / 'fit_semantic_head.py'


@pytest.fixture(scope='module')
def tool():
    pytest.importorskip('safetensors', reason='needs requirements-dev.txt')
    spec = importlib.util.spec_from_file_location('fit_semantic_head', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sizes_and_shapes_of_faces_are_found(tool, rng):
    head = semantic_head()
    shape = rng.standard_normal((20, len(head.shape_names)))
    face = replace(head, xyz_head=head.xyz_head[:56], modes=head.modes[:, :56])
    size, found = tool.face_shapes(head.points(shape)[:, :56], face)
    np.testing.assert_allclose(size, 1 + head.size_sigma * shape[:, 0], rtol=0.05)
    assert np.sqrt(((found - shape[:, 1:]) ** 2).mean()) < 0.4  # the prior pulls to the mean
