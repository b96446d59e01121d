# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The deformable face that is packaged, and the tool that made it."""

import importlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from face_pose_lab.synthetic.ict_facekit import IctFaceKit, eye_centres, similarity_motion

from face_pose_ros.weights import load_weights

REPOSITORY = Path(__file__).resolve().parents[3]
FACEKIT = Path(
    os.environ.get(
        'FACE_POSE_ICT_FACEKIT',
        REPOSITORY.parent / 'shared' / 'assets' / 'ict_facekit' / 'ict_facekit.npz',
    )
)
SELLION, NOSE_TIP, CHIN, HAIRLINE = 168, 1, 152, 10
EYE_RIGHT, EYE_LEFT = 33, 263  # outer corners
LIP_UPPER, LIP_LOWER, MOUTH_RIGHT, MOUTH_LEFT = 13, 14, 61, 291
LID_UPPER, LID_LOWER, BROW = 159, 145, 105
MIRROR = np.array([1.0, -1.0, 1.0])
EXPRESSIONS = ('brows_down', 'brows_up', 'eye_blink', 'jaw_open', 'mouth_pucker', 'mouth_smile')


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location(
        'fit_face_model', REPOSITORY / 'lab' / 'tools' / 'fit_face_model.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def registration(tool):
    return importlib.import_module('skin_registration')  # tool has put its folder on the path


@pytest.fixture(scope='module')
def tools_module(tool):
    return importlib.import_module('keypoint_measurements')


@pytest.fixture(scope='module')
def model():
    return {name: x.astype(np.float64) for name, x in load_weights('face_model').items()}


@pytest.fixture(scope='module')
def facekit():
    if not FACEKIT.is_file():
        pytest.skip(f'{FACEKIT} not found; set FACE_POSE_ICT_FACEKIT to the .npz of ICT-FaceKit')
    return IctFaceKit(FACEKIT)


def mirror_image(model, xyz):
    return xyz[..., model['mirror'].astype(int), :] * MIRROR


def length(xyz, a, b):
    return np.linalg.norm(xyz[a] - xyz[b])


# --- the packaged file ---


def test_the_mean_face_stands_in_the_head_frame(model):
    xyz = model['xyz_head']
    assert np.linalg.norm(xyz[SELLION]) < 0.003  # the origin, up to what the network means by it
    assert xyz[NOSE_TIP, 0] > 0.018  # x out of the face
    assert xyz[EYE_LEFT, 1] > 0.04 > -0.04 > xyz[EYE_RIGHT, 1]  # y to the person's left
    assert xyz[HAIRLINE, 2] > 0.04 > -0.11 > xyz[CHIN, 2]  # z up


def test_the_mean_face_is_an_adult_in_metres(model):
    xyz = model['xyz_head']
    assert 0.085 < length(xyz, EYE_RIGHT, EYE_LEFT) < 0.095
    assert 0.16 < length(xyz, HAIRLINE, CHIN) < 0.185
    assert 0.045 < length(xyz, MOUTH_RIGHT, MOUTH_LEFT) < 0.055


def test_the_mean_face_stands_upright_as_the_canonical_one_does(model, tool):
    canonical = load_weights('canonical_face')['xyz_head'].astype(np.float64)
    scale, R, _ = tool.similarity(canonical, model['xyz_head'])
    assert 0.97 < scale < 1.05
    turned = np.degrees(np.arccos((np.trace(R) - 1) / 2))
    assert turned < 0.5


def test_keypoints_are_paired_with_their_mirror_image(model):
    mirror = model['mirror'].astype(int)
    assert (mirror[mirror] == np.arange(468)).all()
    assert mirror[EYE_RIGHT] == EYE_LEFT
    assert mirror[NOSE_TIP] == NOSE_TIP
    np.testing.assert_allclose(
        mirror_image(model, model['xyz_head']), model['xyz_head'], atol=2e-6
    )
    np.testing.assert_allclose(model['residual'][mirror], model['residual'], rtol=1e-3)


def test_modes_are_symmetric_or_antisymmetric(model):
    for name in (f'expression.{e}' for e in EXPRESSIONS):
        np.testing.assert_allclose(mirror_image(model, model[name]), model[name], atol=2e-6)
    for mode in model['identity_modes']:
        reflected = mirror_image(model, mode)
        assert min(abs(reflected - mode).max(), abs(reflected + mode).max()) < 2e-6


def test_identity_modes_are_independent_and_sorted(model):
    flat = model['identity_modes'].reshape(len(model['identity_modes']), -1)
    gram = flat @ flat.T
    variance = np.diag(gram)
    assert (np.diff(variance) < 0).all()
    assert abs(gram - np.diag(variance)).max() < 1e-5 * variance[-1]


def test_what_is_left_out_is_stated(model):
    kept = (model['identity_modes'] ** 2).sum((1, 2))
    left_out = (model['residual'] ** 2).sum()
    explained = np.cumsum(kept) / (kept.sum() + left_out)
    np.testing.assert_allclose(model['variance_explained'], explained, atol=1e-5)
    assert explained[-1] >= 0.9


def test_faces_grow_with_the_distance_of_the_pupils_but_not_in_proportion(model):
    per_m, without = model['size']
    assert 0.3 / 0.063 < per_m < 1 / 0.063
    assert 0.02 < without < 0.04


@pytest.mark.parametrize(
    ('name', 'a', 'b', 'low_mm', 'high_mm'),
    [
        ('jaw_open', LIP_UPPER, LIP_LOWER, 4, 15),
        ('jaw_open', HAIRLINE, CHIN, 4, 15),
        ('mouth_smile', MOUTH_RIGHT, MOUTH_LEFT, 2, 10),
        ('mouth_pucker', MOUTH_RIGHT, MOUTH_LEFT, -12, -3),
        ('eye_blink', LID_UPPER, LID_LOWER, -6, -2),
        ('brows_up', BROW, SELLION, 1, 5),
        ('brows_down', BROW, SELLION, -5, -1),
    ],
)
def test_an_expression_moves_the_points_of_its_name(model, name, a, b, low_mm, high_mm):
    moved = model['xyz_head'] + model[f'expression.{name}']
    change_mm = 1e3 * (length(moved, a, b) - length(model['xyz_head'], a, b))
    assert low_mm < change_mm < high_mm


def test_the_modes_are_those_of_the_packaged_points(model, tool, facekit):
    points = tool.SkinPoints(model['ict_vertices'].astype(int), model['ict_barycentric'])
    made = tool.face_model(facekit, points)
    assert made.keys() == load_weights('face_model').keys()
    for name, tensor in made.items():
        np.testing.assert_allclose(tensor, model[name], atol=2e-6, err_msg=name)


def test_people_of_the_model_have_one_size(tool, facekit, model):
    """Heads grown by what their pupils tell, and by as much again as they don't."""
    points = tool.SkinPoints(model['ict_vertices'].astype(int), model['ict_barycentric'])
    rng = np.random.default_rng(5)
    z = rng.standard_normal((400, 100))
    heads = facekit.vertices(z, np.zeros((400, 57)))
    distance = np.linalg.norm(np.diff(eye_centres(heads), axis=1)[:, 0], axis=1)
    (per_m, without), identities = tool.size_and_identities(facekit, points)
    mean = points.of(facekit.neutral)
    growth = similarity_motion(points.of(heads) - mean, mean)[:, 6]
    rest = growth - per_m * (distance - distance.mean())
    assert rest.std() == pytest.approx(without, rel=0.15)
    assert abs(np.corrcoef(rest, distance)[0, 1]) < 0.2  # 4 standard errors
    of_one_size = np.einsum('mj,jkx->mkx', z, identities)
    assert abs(similarity_motion(of_one_size, mean)[:, 6]).max() < 1e-6


# --- the tool ---


def test_similarity_is_recovered(tool):
    rng = np.random.default_rng(1)
    source = rng.standard_normal((20, 3))
    R = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    R *= np.sign(np.linalg.det(R))
    t = rng.standard_normal(3)
    s, R_found, t_found = tool.similarity(source, 1.3 * source @ R.T + t)
    assert s == pytest.approx(1.3)
    np.testing.assert_allclose(R_found, R, atol=1e-12)
    np.testing.assert_allclose(t_found, t, atol=1e-12)


def test_nearest_point_of_a_triangle_beats_every_other(registration):
    rng = np.random.default_rng(2)
    corners = rng.standard_normal((200, 3, 3))
    p = 2 * rng.standard_normal((200, 3))
    weights = registration.nearest_in_triangles(p, corners)
    np.testing.assert_allclose(weights.sum(-1), 1)
    assert (weights >= 0).all()
    found = np.linalg.norm((weights[..., None] * corners).sum(1) - p, axis=1)
    others = rng.dirichlet([0.4, 0.4, 0.4], (2000,))  # many near edges and corners
    best = np.linalg.norm(np.einsum('wc,tcx->wtx', others, corners) - p, axis=-1).min(0)
    assert (found <= best + 1e-12).all()
    assert (best - found).mean() < 0.02


def test_the_registered_face_lies_on_the_skin_where_the_landmarks_are(tool, facekit):
    points = tool.correspondences(facekit, None)
    partner = tool.mirror_partners(tool.canonical()[0])
    xyz = points.of(facekit.neutral)
    np.testing.assert_allclose(xyz[partner] * MIRROR, xyz, atol=2e-5)  # as far as ICT's head is
    landmarks = tool.landmarks_of(facekit, partner)
    gap = [np.linalg.norm(xyz[k] - place) for k, place in landmarks.items()]
    assert np.sqrt(np.mean(np.square(gap))) < 0.0025
    assert len(np.unique(xyz.round(5), axis=0)) == 468  # no two keypoints fell together


def test_points_slide_to_where_the_network_means_them(tool, registration, tools_module, facekit):
    """Made-up measurements of points that lie elsewhere on the skin: they are found again."""
    face, triangles = tool.canonical()
    partner = tool.mirror_partners(face)
    skin = tool.Skin(facekit)
    start = tool.correspondences(facekit, None)
    xyz = start.of(skin.xyz)
    shift = 0.003 * np.stack([0 * xyz[:, 0], np.sin(60 * xyz[:, 1]), np.cos(50 * xyz[:, 2])], 1)
    normals = registration.vertex_normals(xyz, triangles)
    meant = skin.symmetric(skin.nearest(xyz + shift, normals)[0], partner)

    count = 40
    rng = np.random.default_rng(3)
    heads = facekit.vertices(rng.standard_normal((count, 100)), 0.2 * rng.random((count, 57)))[
        :, : tools_module.FACE_VERTICES
    ]
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = [turned(yaw) for yaw in np.radians(rng.uniform(-40, 40, count))]
    T[:, 2, 3] = 0.6
    seen_at_zero = tools_module.Measurements(heads, T, np.zeros((count, 468, 2)))
    xy = -seen_at_zero.residuals(meant)[0] + rng.normal(0, 0.002, (count, 468, 2))
    found = tools_module.slide(
        start, skin, tools_module.Measurements(heads, T, xy), partner, triangles
    )

    def rms_mm(points):
        return 1e3 * tool.rms(points.of(skin.xyz) - meant.of(skin.xyz))

    assert rms_mm(start) > 2
    assert rms_mm(found) < 0.6


def turned(yaw):
    """R_cam_head of an upright head turned by an angle [rad]."""
    c, s = np.cos(yaw), np.sin(yaw)
    facing = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ facing


def test_the_derivative_of_the_keypoints_agrees_with_finite_differences(
    tools_module, registration, facekit
):
    rng = np.random.default_rng(6)
    heads = facekit.vertices(rng.standard_normal((2, 100)), np.zeros((2, 57)))
    T = np.tile(np.eye(4), (2, 1, 1))
    T[:, :3, :3] = [turned(0.3), turned(-0.5)]
    T[:, :3, 3] = [0.0, 0.0, 0.7]
    corners = np.array([[100, 101, 102], [2000, 2001, 2002]])
    points = registration.SkinPoints(corners, np.full((2, 3), 1 / 3))
    measurements = tools_module.Measurements(heads.astype(np.float64), T, np.zeros((2, 2, 2)))
    r, J, view = measurements.residuals(points)
    for axis in range(3):
        moved = heads.astype(np.float64)
        moved[..., axis] += 1e-6
        change = tools_module.Measurements(moved, T, measurements.xy).residuals(points)[0] - r
        np.testing.assert_allclose(-change / 1e-6, J[..., axis], atol=1e-5)
    camera_in_head = np.einsum('mji,mj->mi', T[:, :3, :3], -T[:, :3, 3])
    towards = camera_in_head[:, None] - points.of(heads)
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    np.testing.assert_allclose(view, towards, atol=1e-6)


def test_a_view_frame_points_at_the_sellion_with_the_head_level(tools_module):
    T = np.eye(4)
    T[:3, :3] = turned(0.4)
    T[:3, 3] = [0.2, -0.1, 0.9]
    T_view_head, R_view_cam = tools_module.view_of(T)
    np.testing.assert_allclose(T_view_head[:3, 3], [0, 0, np.linalg.norm(T[:3, 3])], atol=1e-12)
    np.testing.assert_allclose(R_view_cam @ R_view_cam.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R_view_cam) == pytest.approx(1)
    assert T_view_head[1, 1] == pytest.approx(0, abs=1e-12)
    assert T_view_head[0, 1] > 0.8
    np.testing.assert_allclose(T_view_head[:3], R_view_cam @ T[:3], atol=1e-12)


def test_modes_of_lopsided_people_prefer_no_side(tool):
    """One mode that moves a single point: half the people have it on the other side."""
    partner = np.array([1, 0, 2])
    offsets = np.zeros((1, 3, 3))
    offsets[0, 0] = [0.01, 0.0, 0.02]
    modes = tool.principal_modes(offsets, partner)
    covariance = np.einsum('jkx,jly->kxly', modes, modes)
    expected = np.zeros((3, 3, 3, 3))
    for k in (0, 1):
        expected[k, :, k] = 0.5 * np.outer(offsets[0, 0], offsets[0, 0])
    np.testing.assert_allclose(covariance, expected, atol=1e-12)
