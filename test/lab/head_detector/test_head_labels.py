# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of heads follow the camera that would have taken the moved picture."""

import numpy as np
import pytest
from face_pose_lab.head_detector.heads import Heads, Similarity, heads_of_poses, with_turn
from lab.head_detector.material import one_head, turned

from face_pose_ros.faces.head_cells import cells_of_poses
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera

FOCAL, MIDDLE = 310.0, np.array([150.3, 120.8])
NOT_HIDDEN = np.zeros(6, bool)


@pytest.fixture
def T(rng):
    """Heads all over a picture, from all sides."""
    T = np.tile(np.eye(4), (6, 1, 1))
    T[:, :3, :3] = rotations.exp(rng.uniform(-2, 2, (6, 3)))
    T[:, :3, 3] = rng.uniform((-0.4, -0.3, 0.6), (0.4, 0.3, 1.4), (6, 3))
    return T


def pinhole_heads(T, focal=FOCAL, middle=MIDDLE) -> Heads:
    return heads_of_poses(T, np.full(len(T), focal), middle, NOT_HIDDEN)


def assert_same(found: Heads, expected: Heads) -> None:
    np.testing.assert_allclose(found.uv, expected.uv, atol=1e-9)
    np.testing.assert_allclose(found.log_size, expected.log_size, atol=1e-12)
    np.testing.assert_allclose(found.R_box_head, expected.R_box_head, atol=1e-12)
    np.testing.assert_array_equal(found.wanted, expected.wanted)


@pytest.mark.parametrize('mirror', [False, True])
def test_moved_heads_are_those_of_a_rolled_zoomed_mirrored_camera(T, mirror):
    scale, angle = 1.7, 0.9
    move = Similarity(scale, angle, mirror, np.array([12.0, -30.0]))
    about_axis = rotations.exp([0, 0, angle])
    camera = np.diag([-1.0 if mirror else 1.0, 1, 1])
    head = np.diag([1.0, -1.0 if mirror else 1.0, 1])
    T_moved = T.copy()
    T_moved[:, :3, :3] = about_axis @ camera @ T[:, :3, :3] @ head
    T_moved[:, :3, 3] = T[:, :3, 3] @ (about_axis @ camera).T
    middle = move.matrix @ [*MIDDLE, 1]
    expected = pinhole_heads(T_moved, scale * FOCAL, middle)
    assert_same(pinhole_heads(T).moved(move), expected)


def test_labels_are_what_the_runtime_decodes(T):
    camera = Camera.from_K([[FOCAL, 0, MIDDLE[0]], [0, FOCAL, MIDDLE[1]], [0, 0, 1]], 320, 240)
    cells, seen = cells_of_poses(T, camera)
    heads = pinhole_heads(T)
    assert seen.all()
    np.testing.assert_allclose(heads.uv, cells.uv, atol=1e-9)
    np.testing.assert_allclose(heads.log_size, cells.log_size, atol=1e-9)
    R = rotations.from_columns(cells.columns)
    np.testing.assert_allclose(heads.R_box_head, R, atol=1e-9)


@pytest.mark.parametrize('turn_deg', [-160.0, -90.0, 0.0, 40.0, 114.0, 116.0])
def test_heads_that_turn_away_are_not_wanted(turn_deg):
    heads = one_head(turn_deg=turn_deg)
    assert heads.turn_deg == pytest.approx(abs(turn_deg))
    assert with_turn(heads).wanted.tolist() == [abs(turn_deg) < 115]


def test_hidden_heads_are_not_wanted(T):
    T[:, :3, :3] = turned(20)
    T[:, :2, 3] = 0
    hidden = np.array([True, False, False, True, False, False])
    heads = heads_of_poses(T, np.full(6, FOCAL), MIDDLE, hidden)
    np.testing.assert_array_equal(heads.wanted, ~hidden)
    assert heads.posed.all()


def test_a_placed_point_is_where_it_should_be():
    uv, at = np.array([31.0, 7.0]), np.array([100.0, 50.0])
    move = Similarity.placing(uv, at, 0.6, -2.0, mirror=True)
    np.testing.assert_allclose(move.matrix @ [*uv, 1], at)
    beside = move.matrix @ [uv[0] + 3, uv[1] + 4, 1]
    assert np.linalg.norm(beside - at) == pytest.approx(0.6 * 5)


def test_joined_heads_can_be_chosen():
    heads = Heads.none().join(one_head((1, 2))).join(one_head((3, 4), 20.0))
    assert len(heads) == 2
    assert heads[1:].uv.tolist() == [[3, 4]]
    assert np.exp(heads.log_size) == pytest.approx([50, 20])
