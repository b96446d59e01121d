# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The faces are faces, in the head frame."""

import numpy as np
import pytest

from face_pose_ros.keypoints import semantic
from face_pose_ros.options import PoseOptions, named_options
from face_pose_ros.pose.face_model import canonical_face, deformable_face, semantic_head


@pytest.mark.parametrize('build', [canonical_face, deformable_face])
def test_it_is_a_face_in_the_head_frame(build):
    face = build()
    right_eye_corner, left_eye_corner, nose_tip, chin, forehead, sellion = face.xyz_head[
        [33, 263, 4, 152, 10, 168]
    ]
    assert right_eye_corner[1] < 0 < left_eye_corner[1]
    assert chin[2] < nose_tip[2] < forehead[2]
    assert nose_tip[0] > sellion[0] > right_eye_corner[0]
    assert np.linalg.norm(sellion) < 0.004
    # Outer eye corners of adults are 8 to 10 cm apart.
    assert 0.08 < left_eye_corner[1] - right_eye_corner[1] < 0.10


@pytest.mark.parametrize('build', [canonical_face, deformable_face])
def test_normals_point_out_of_the_head(build):
    face = build()
    np.testing.assert_allclose(np.linalg.norm(face.normals, axis=-1), 1)
    middle_of_head = [-0.09, 0, -0.02]
    outwards = (face.normals * (face.xyz_head - middle_of_head)).sum(-1) > 0
    assert outwards.mean() > 0.97  # not on the sides of the nose
    assert face.normals[4, 0] > 0.9  # nose tip
    assert face.normals[234, 1] < -0.9  # right cheek before the ear
    assert face.normals[454, 1] > 0.9


def test_the_parameter_says_how_distances_follow_the_pupils():
    (text,) = (
        o.text for name, _, o in named_options(PoseOptions()) if name.endswith('pupillary_mm')
    )
    assert f'each mm adds {0.1 * deformable_face().size_per_m:.2g} % to distances' in text


def test_coefficients():
    face = deformable_face()
    names = face.shape_names
    assert names[0] == 'size'
    assert len(set(names)) == len(names) == 1 + len(face.modes)
    identities = face.keep('identity')
    assert len(identities.modes) >= 8
    assert identities.size_sigma == 0
    assert face.keep('size').size_sigma == face.size_sigma
    expressions = [n for n, is_one in zip(names, face.is_expression, strict=True) if is_one]
    assert 'jaw_open' in expressions
    assert 1 + len(identities.modes) + len(expressions) == len(names)


def test_points_are_scaled_and_linear_in_the_modes(wavy):
    shape = np.zeros((2, len(wavy.shape_names)))
    shape[1, 0], shape[1, 2] = 1, -2
    points = wavy.points(shape)
    assert np.array_equal(points[0], wavy.xyz_head)
    size = 1 + wavy.size_sigma
    np.testing.assert_allclose(points[1], size * (wavy.xyz_head - 2 * wavy.modes[1]))
    assert 0.04 < wavy.size_sigma < 0.055  # 3.5 mm of 63, if faces grew in proportion


def test_every_stride_th_keypoint(wavy):
    few = wavy.every(4)
    assert few.xyz_head.shape == (117, 3)
    assert np.array_equal(few.modes[:, 1], wavy.modes[:, 4])
    assert np.array_equal(few.normals[1], wavy.normals[4])


def test_the_semantic_head_is_the_same_face_with_ears_and_a_skull(rng):
    face, head = deformable_face(), semantic_head()
    assert head.shape_names == face.shape_names
    shape = rng.standard_normal((3, len(face.shape_names)))
    index = semantic.FACE_MESH_INDEX
    is_face = index >= 0
    np.testing.assert_allclose(
        head.points(shape)[:, is_face], face.points(shape)[:, index[is_face]]
    )
    places = dict(zip(semantic.NAMES, head.xyz_head.tolist(), strict=True))
    # Adults: 14 cm from ear to ear, which lie 9 cm behind the sellion; the head is 19 cm long.
    assert places['tragion_left'][1] - places['tragion_right'][1] == pytest.approx(0.14, abs=0.015)
    assert places['tragion_left'][0] == pytest.approx(-0.09, abs=0.015)
    assert places['occiput_180'][0] == pytest.approx(-0.19, abs=0.02)
    assert 0.07 < places['vertex'][2] < 0.14


def test_the_semantic_head_is_symmetric():
    head = semantic_head()
    mirrored = head.xyz_head[semantic.MIRROR] * [1.0, -1, 1]
    np.testing.assert_allclose(head.xyz_head, mirrored, rtol=0, atol=2e-3)
