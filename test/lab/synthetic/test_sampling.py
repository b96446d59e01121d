# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random heads keep to their limits."""

import numpy as np
import pytest
import torch
from face_pose_lab.synthetic.ict_facekit import FACE_VERTICES
from face_pose_lab.synthetic.sampling import (
    R_FACING,
    HeadRange,
    attitude,
    face_bounds,
    look_along,
    random_camera,
    random_expression,
    random_head,
    view_angles_deg,
)
from helpers.facekit import load_facekit


def test_a_head_that_faces_along_its_ray_has_no_angles():
    ray = np.array([0.4, -0.3, 0.8])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = look_along(ray) @ R_FACING, 1.3 * ray
    np.testing.assert_allclose(view_angles_deg(T), 0, atol=1e-9)
    # The head's x axis points back at the camera, its z axis up.
    np.testing.assert_allclose(T[:3, 0], -ray / np.linalg.norm(ray), atol=1e-12)
    assert T[1, 2] < -0.9


@pytest.mark.parametrize(
    ('angles', 'turned'),
    [
        ((30, 0, 0), (2, (0.5, 3**0.5 / -2, 0))),  # rolled: up leans to the picture's right
        ((0, 40, 0), (0, (-np.sin(np.radians(40)), 0, -np.cos(np.radians(40))))),
        ((0, 0, 20), (0, (0, np.sin(np.radians(20)), -np.cos(np.radians(20))))),  # nods down
        # In profile the top of the head leans towards the camera.
        ((0, 90, 20), (2, (0, -np.cos(np.radians(20)), -np.sin(np.radians(20))))),
    ],
)
def test_angles_turn_the_head_as_described(angles, turned):
    T = np.eye(4)
    T[:3, :3] = attitude(*angles)
    T[2, 3] = 1.0
    np.testing.assert_allclose(view_angles_deg(T), angles, atol=1e-9)
    axis, direction = turned
    np.testing.assert_allclose(T[:3, axis], direction, atol=1e-9)


def test_random_cameras_see_their_whole_image():
    rng = np.random.default_rng(0)
    models = set()
    for _ in range(60):
        camera = random_camera(1280, 720, rng)
        corners = torch.tensor([[0.0, 0], [1279, 0], [0, 719], [1279, 719]]).double()
        assert camera.unproject(corners).valid.all()
        models.add(camera.distortion_model)
    assert models == {'plumb_bob', 'rational_polynomial', 'equidistant'}


def test_random_heads_keep_to_the_limits():
    facekit = load_facekit()
    limits = HeadRange((0.6, 0.9), yaw_deg=80.0, pitch_deg=10.0, roll_deg=5.0)
    angles, distances = [], []
    for seed in range(40):
        head = random_head(facekit, limits, np.random.default_rng(seed))
        assert np.abs(head.identity).max() <= 2.5
        face = facekit.vertices(head.identity[None], head.expression[None])[0, :FACE_VERTICES]
        box = face_bounds(face, head)
        assert (box[:2] >= 0).all()
        assert (box[2:] <= (1279, 719)).all()
        angles.append(view_angles_deg(head.T_cam_head))
        distances.append(np.linalg.norm(head.T_cam_head[:3, 3]))
    assert (np.abs(angles) <= (5, 80, 10)).all()
    assert np.abs(angles).max(axis=0)[1] > 60
    assert 0.6 <= min(distances) < 0.65
    assert 0.85 < max(distances) <= 0.9


def test_expressions_are_mild_and_alike_on_both_sides():
    names = load_facekit().expression_names
    rng = np.random.default_rng(0)
    draws = np.array([random_expression(names, rng) for _ in range(200)])
    assert draws.min() >= 0
    assert draws.max() <= 0.61
    assert 0.1 < (draws[:, names.index('jawOpen')] > 0).mean() < 0.5
    left, right = (draws[:, names.index(f'mouthSmile_{side}')] for side in 'LR')
    assert (left > 0).any()
    assert np.abs(left - right).max() < 0.25
    out, into = (draws[:, names.index(n)] for n in ('eyeLookOut_L', 'eyeLookIn_R'))
    np.testing.assert_array_equal(out, into)


def test_a_face_too_near_for_its_image_is_refused():
    with pytest.raises(RuntimeError, match='64 x 48 px'):
        random_head(
            load_facekit(), HeadRange((0.1, 0.11), width=64, height=48), np.random.default_rng(0)
        )
