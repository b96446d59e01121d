# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotation metrics: the labels' convention, wrap, bins, alignment, what a row says."""

import numpy as np
import pytest
from face_pose_lab.evaluation import metrics
from helpers.heads import R_CAM_FRONTAL, observe
from scipy.spatial.transform import Rotation

from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import canonical_face
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.virtual_camera import photo_camera


@pytest.fixture
def rng(request):
    return np.random.default_rng(len(request.node.name))


def labels(rng, count, yaw_deg=89.0):
    return rng.uniform(-1, 1, (count, 3)) * [179.0, yaw_deg, 179.0]


def test_the_label_is_three_turns_about_x_y_z(rng):
    pitch, yaw, roll = angles = labels(rng, 1)[0]
    x, y, z = (
        Rotation.from_euler(axis, angle, degrees=True).as_matrix()
        for axis, angle in (('x', -pitch), ('y', yaw), ('z', roll))
    )
    np.testing.assert_allclose(metrics.rotation_from_label(angles), x @ y @ z, atol=1e-12)


def test_labels_survive_the_round_trip(rng):
    angles = labels(rng, 200)
    back = metrics.label_from_rotation(metrics.rotation_from_label(angles))
    np.testing.assert_allclose(back, angles, atol=1e-6)


def test_beyond_a_yaw_of_90_other_angles_give_the_same_rotation(rng):
    R = metrics.rotation_from_label([[12.0, 97.0, -5.0]])
    back = metrics.label_from_rotation(R)
    assert abs(back[0, 1]) <= 90
    np.testing.assert_allclose(metrics.rotation_from_label(back), R, atol=1e-12)


def test_a_perfect_estimate_has_no_error_beyond_a_yaw_of_90_either(rng):
    angles = labels(rng, 200, yaw_deg=170)
    errors = metrics.label_errors_deg(metrics.rotation_from_label(angles), angles)
    np.testing.assert_allclose(errors, 0, atol=1e-6)
    across = metrics.rotation_from_label([[10.0, 88.0, -20.0], [10.0, -92.0, -20.0]])
    errors = metrics.label_errors_deg(across, np.array([[10.0, 91.0, -21.0], [12.0, -89.0, -20]]))
    np.testing.assert_allclose(errors, [[0, 3, 1], [2, 3, 0]], atol=1e-6)


def test_a_frontal_face_has_no_angles():
    R = R_CAM_FRONTAL @ metrics.R_HEAD_LABEL
    np.testing.assert_array_equal(R, np.eye(3))


@pytest.mark.parametrize(
    ('angles', 'gaze'),
    [
        ((0, 40, 0), (-1, 0)),  # a positive yaw looks to the picture's left
        ((40, 0, 0), (0, -1)),  # a positive pitch looks up
    ],
)
def test_signs_of_the_labels(angles, gaze):
    R_cam_head = metrics.rotation_from_label(angles) @ metrics.R_HEAD_LABEL.T
    out_of_the_face = R_cam_head[:, 0]
    np.testing.assert_allclose(np.sign(out_of_the_face[:2].round(9)), gaze)
    assert out_of_the_face[2] < 0


def test_a_face_drawn_by_its_label_is_read_as_that_label(rng):
    angles = rng.uniform(-1, 1, (20, 3)) * [40, 80, 60]
    R = metrics.rotation_from_label(angles) @ metrics.R_HEAD_LABEL.T
    T_cam_head = rotations.from_rt(R, [0.03, -0.05, 1.1])
    camera, model = photo_camera(450, 400), canonical_face()
    poses = fit_pose(observe(model.xyz_head, T_cam_head, camera), model, camera).poses
    read = metrics.label_from_rotation(poses.T_cam_head[:, :3, :3] @ metrics.R_HEAD_LABEL)
    np.testing.assert_allclose(read, angles, atol=1e-3)


@pytest.mark.parametrize(
    ('a', 'b', 'difference'),
    [(179, -179, -2), (-179, 179, 2), (10, 30, -20), (350, 5, -15), (0, 360, 0), (-540, 170, 10)],
)
def test_differences_wrap(a, b, difference):
    assert metrics.wrapped_difference_deg(a, b) == pytest.approx(difference)


def test_geodesic_distance_is_the_angle_of_the_turn_between(rng):
    R = Rotation.random(50, random_state=1)
    axis = rng.normal(size=(50, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = rng.uniform(0, 180, 50)
    other = Rotation.from_rotvec(axis * np.deg2rad(angle)[:, None]) * R
    np.testing.assert_allclose(
        metrics.geodesic_deg(R.as_matrix(), other.as_matrix()), angle, atol=1e-5
    )


@pytest.mark.parametrize(
    ('yaw', 'name'),
    [
        (0, '0-30'),
        (29.999, '0-30'),
        (-30, '30-60'),
        (30, '30-60'),
        (-59.999, '30-60'),
        (60, '60-99'),
        (-99, '60-99'),
        (99.001, None),
    ],
)
def test_edges_of_the_bins(yaw, name):
    bins = metrics.yaw_bins(np.array([float(yaw)]))
    assert [n for n, mask in bins.items() if mask[0]] == ([] if name is None else [name, 'all'])


def turned_labels(angles, C):
    """Estimates in our head frame that miss their labels by the rotation C of the head frame."""
    return metrics.rotation_from_label(angles) @ C.T @ metrics.R_HEAD_LABEL.T


def test_alignment_removes_a_constant_rotation(rng):
    angles = labels(rng, 60)
    C = Rotation.from_rotvec(np.deg2rad([4.0, -2.0, 1.0])).as_matrix()
    R = turned_labels(angles, C)
    rows = metrics.score(R, np.zeros((60, 3, 3)), np.ones(60, bool), angles)
    for row in rows:
        assert row.geodesic_mean_deg == pytest.approx(np.sqrt(21))
        assert row.geodesic_mean_aligned_deg == pytest.approx(0, abs=1e-5)
        assert row.mae_aligned_deg == pytest.approx(0, abs=1e-5)
        assert row.mae_deg > 1


def test_alignment_uses_found_frontal_faces_only(rng):
    angles = np.array([[3.0, 10, -5], [0.0, -20, 4], [5.0, 45, 0]])
    C = Rotation.from_rotvec([0.1, 0, 0]).as_matrix()
    R = turned_labels(angles, C)
    R[1] = np.eye(3)  # not found: what is written there does not count
    R[2] = turned_labels(angles[2], np.eye(3))
    rows = metrics.score(R, np.zeros((3, 3, 3)), np.array([True, False, True]), angles)
    assert rows[0].geodesic_mean_aligned_deg == pytest.approx(0, abs=1e-5)
    assert rows[1].geodesic_mean_deg == pytest.approx(0, abs=1e-5)
    assert rows[1].geodesic_mean_aligned_deg == pytest.approx(np.rad2deg(0.1))


def test_a_row_averages_the_found_faces(rng):
    angles = np.array([[0.0, 0, 0], [0.0, 0, 0], [0.0, 0, 0], [0.0, 70, 0]])
    estimates = np.array([[1.0, 0, 0], [0.0, -2, 0], [50.0, 50, 50], [0.0, 70, 6]])
    R = metrics.rotation_from_label(estimates) @ metrics.R_HEAD_LABEL.T
    covariance = np.diag(np.deg2rad([2.0, 1.0, 2.0]) ** 2)[None].repeat(4, 0)
    found = np.array([True, True, False, True])
    frontal, half, profile, every = metrics.score(R, covariance, found, angles)
    assert (frontal.faces, frontal.found) == (3, pytest.approx(2 / 3))
    assert frontal.pitch_deg == pytest.approx(0.5)
    assert frontal.yaw_deg == pytest.approx(1)
    assert frontal.mae_deg == pytest.approx(0.5)
    assert frontal.geodesic_mean_deg == pytest.approx(1.5)
    assert frontal.sigma_deg == pytest.approx(3)
    assert profile.roll_deg == pytest.approx(6)
    assert half.faces == 0
    assert np.isnan(half.mae_deg)
    assert np.isnan(half.found)
    assert (every.faces, every.found) == (4, 0.75)
    assert every.geodesic_median_deg == pytest.approx(2)


def test_no_answer_at_all_is_a_row_without_errors():
    rows = metrics.score(np.eye(3)[None], np.zeros((1, 3, 3)), np.zeros(1, bool), np.zeros((1, 3)))
    assert rows[0].found == 0
    assert np.isnan(rows[0].geodesic_mean_deg)


def test_tables_show_the_rows():
    rows = metrics.score(
        metrics.R_HEAD_LABEL.T[None], np.zeros((1, 3, 3)), np.ones(1, bool), np.zeros((1, 3))
    )
    tables = {'rigid': rows, 'shape': rows}
    lines = metrics.markdown(tables).splitlines()
    assert len(lines) == 2 + 2 * len(rows)
    assert len({line.replace('\\|', '').count('|') for line in lines}) == 1
    assert lines[2].startswith('| rigid | 0-30 | 1 | 100.0% | 0.00 |')
    first = metrics.text(tables).splitlines()[2].split()
    assert first[:4] == ['0-30', '1', '100.0%', '0.00']
