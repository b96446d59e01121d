# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ICT-FaceKit's heads are metric and stand in the head frame."""

import os
from pathlib import Path

import numpy as np
import pytest
from face_pose_lab.synthetic import ict_facekit
from face_pose_lab.synthetic.ict_facekit import IctFaceKit, IctFaceKitError, Part, eye_centres

PATH = Path(
    os.environ.get(
        'FACE_POSE_ICT_FACEKIT',
        Path(__file__).resolve().parents[4]
        / 'shared'
        / 'assets'
        / 'ict_facekit'
        / 'ict_facekit.npz',
    )
)
# Vertices among the Multi-PIE landmarks: outer corner of the right and left eye, nose tip, chin.
EYE_RIGHT, EYE_LEFT, NOSE_TIP, CHIN = 36, 45, 30, 8


@pytest.fixture(scope='module')
def facekit():
    if not PATH.is_file():
        pytest.skip(f'{PATH} not found; set FACE_POSE_ICT_FACEKIT to the .npz of ICT-FaceKit')
    return IctFaceKit(PATH)


@pytest.fixture
def heads(facekit):
    rng = np.random.default_rng(7)
    return facekit.vertices(rng.standard_normal((60, 100)), np.zeros((60, 57)))


def test_the_mean_head_stands_in_the_head_frame(facekit):
    landmarks = facekit.neutral[facekit.landmark68_vertices]
    x, y, z = landmarks.T
    assert y[EYE_RIGHT] < -0.04 < 0.04 < y[EYE_LEFT]  # y to the person's left, metres
    assert x[NOSE_TIP] > 0.015  # x out of the face
    assert -0.14 < z[CHIN] < -0.1 < -0.05 < z[NOSE_TIP] < -0.03  # z up


def test_the_sellion_is_the_deepest_midline_point_of_the_nasal_root(facekit):
    face = facekit.neutral[np.unique(facekit.triangles[facekit.triangle_part == Part.FACE])]
    root = face[(abs(face[:, 1]) < 1e-6) & (abs(face[:, 2]) < 0.017) & (face[:, 0] > -0.02)]
    assert len(root) > 10
    assert root[:, 0].min() == 0


def test_people_are_as_large_as_adults(heads):
    left, right = eye_centres(heads).swapaxes(0, 1)
    distance = np.linalg.norm(left - right, axis=1)
    assert 0.061 < distance.mean() < 0.065
    assert 0.002 < distance.std() < 0.005
    assert (left[:, 1] > right[:, 1]).all()


def test_every_identity_has_its_own_sellion_at_the_origin(heads):
    np.testing.assert_allclose(heads[:, ict_facekit.SELLION], 0, atol=1e-7)


def test_an_expression_moves_the_skin_and_not_the_frame(facekit):
    name = facekit.expression_names.index('browDown_L')
    expression = np.zeros((2, 57))
    expression[1, name] = 1
    identity = np.tile(np.random.default_rng(3).standard_normal((1, 100)), (2, 1))
    neutral, frowning = facekit.vertices(identity, expression)
    skull = facekit.landmark68_vertices[CHIN]
    np.testing.assert_allclose(frowning[skull], neutral[skull], atol=1e-5)
    assert abs(frowning - neutral).max() > 0.003


def test_coefficients_add_up(facekit):
    rng = np.random.default_rng(4)
    identity, expression = rng.standard_normal((1, 100)), rng.random((1, 57))
    together = facekit.vertices(identity, expression) - facekit.neutral
    alone = facekit.vertices(identity, 0 * expression) - facekit.neutral
    np.testing.assert_allclose(
        together - alone,
        facekit.vertices(0 * identity, expression) - facekit.neutral,
        atol=1e-6,
    )


def test_triangles_cover_every_part_and_face_outwards(facekit):
    corners = facekit.neutral[facekit.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.linalg.norm(normals, axis=1) > 0).mean() > 0.999
    assert set(facekit.triangle_part) == set(Part)
    for part in (Part.FACE, Part.EYEBALL, Part.IRIS):
        of_part = facekit.triangle_part == part
        centre = corners[of_part & (corners[..., 1] > 0).all(1)].mean((0, 1))
        side = of_part & (corners[..., 1] > 0).all(1)
        away = corners[side].mean(1) - centre
        assert ((away * normals[side]).sum(1) > 0).mean() > 0.6, part


def test_texture_coordinates_belong_to_the_triangles(facekit):
    assert facekit.triangle_uv.shape == facekit.triangles.shape
    uv = facekit.uv[facekit.triangle_uv]
    tile = np.floor(uv[..., 0].mean(1))
    expected = {Part.FACE: 0, Part.HEAD_NECK: 1, Part.TEETH: 3}
    for part, number in expected.items():
        assert (tile[facekit.triangle_part == part] == number).all()


def test_a_missing_file_is_named_with_its_source(tmp_path):
    with pytest.raises(IctFaceKitError, match=r'nowhere\.npz: no such file.*ICT-FaceKit'):
        IctFaceKit(tmp_path / 'nowhere.npz')


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / 'text.npz'
    path.write_text('not an archive')
    with pytest.raises(IctFaceKitError, match=r'text\.npz: not a readable \.npz'):
        IctFaceKit(path)


def test_an_array_of_another_shape_is_named(tmp_path):
    np.savez(tmp_path / 'a.npz', neutral_cm=np.zeros((5, 3)))
    with pytest.raises(IctFaceKitError, match=r'neutral_cm has shape \(5, 3\), expected \(26719'):
        IctFaceKit(tmp_path / 'a.npz')


def test_a_missing_array_is_named(tmp_path):
    np.savez(tmp_path / 'a.npz', neutral_cm=np.zeros((26719, 3)))
    with pytest.raises(IctFaceKitError, match='identity_modes_cm is missing'):
        IctFaceKit(tmp_path / 'a.npz')
