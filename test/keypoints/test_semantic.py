# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoints' names, their mirror partners, and what the numbers mean."""

import numpy as np
from face_pose_lab.face_mesh.points import mirror_partners

from face_pose_ros.keypoints.semantic import (
    DEFINITIONS,
    FACE_MESH_INDEX,
    IS_FACE,
    MIRROR,
    NAMES,
    EarPoint,
    SkullPoint,
)
from face_pose_ros.pose.face_model import deformable_face


def test_a_partner_is_the_same_point_on_the_other_side():
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(len(NAMES)))
    for name, partner in zip(NAMES, MIRROR, strict=True):
        swapped = name.replace('_right', '#').replace('_left', '_right').replace('#', '_left')
        assert NAMES[partner] == swapped


def test_face_points_have_the_partners_of_face_mesh():
    partners = mirror_partners()[FACE_MESH_INDEX[IS_FACE]]
    np.testing.assert_array_equal(FACE_MESH_INDEX[MIRROR][IS_FACE], partners)


def test_right_and_left_are_the_persons_own():
    y = deformable_face().xyz_head[FACE_MESH_INDEX[IS_FACE], 1]
    for name, height in zip(np.array(NAMES)[IS_FACE], y, strict=True):
        side = -1 if name.endswith('_right') else 1 if name.endswith('_left') else 0
        assert np.sign(np.round(height, 4)) == side, name
    for name, definition in DEFINITIONS.items():
        if isinstance(definition, EarPoint):
            assert definition.left == name.endswith('_left')
        if isinstance(definition, SkullPoint) and name.endswith('_left'):
            assert definition.direction[1] > 0.1


def test_no_two_keypoints_are_the_same():
    assert len(set(DEFINITIONS.values())) == len(NAMES)
