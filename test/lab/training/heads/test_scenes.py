# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of rendered scenes."""

import cv2
import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.synthetic.sampling import R_FACING
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.training.heads import scenes
from face_pose_lab.training.heads.staging import Lens, Pose
from face_pose_lab.training.heads.views import facing_pose

from face_pose_ros.keypoints.semantic import IS_FACE


@pytest.fixture(scope='module')
def rendered(studio):
    return scenes.render_range(studio, range(0, 6), 2)


def test_faces_are_projected_through_the_lens(rendered):
    pictures, labels = rendered
    assert len(pictures) == 6
    assert len(labels['image_index']) > 3
    for row, image in enumerate(labels['image_index']):
        T, xyz = labels['T_cam_head'][row], labels['xyz_head'][row].astype(float)
        K, dist = labels['K'][image], labels['dist'][image]
        cam = xyz @ T[:3, :3].T + T[:3, 3]
        uv = cv2.projectPoints(cam, np.zeros(3), np.zeros(3), K, dist)[0][:, 0]
        np.testing.assert_allclose(labels['uv'][row], uv, atol=1e-3)
        face = labels['uv'][row][IS_FACE]
        np.testing.assert_allclose(labels['box_xyxy'][row, :2], face.min(0), atol=1e-3)
        np.testing.assert_allclose(labels['box_xyxy'][row, 2:], face.max(0), atol=1e-3)
        assert 0 <= labels['visible_fraction'][row] <= 1


def test_the_size_is_the_shards(studio, rendered):
    pictures, _ = rendered
    again, _ = scenes.render_range(studio, range(0, 1), 2)
    assert again.shape[1:] == pictures.shape[1:]
    np.testing.assert_array_equal(again[0], pictures[0])


def test_lenses_are_monotone_over_the_image(rng):
    for _ in range(60):
        lens = scenes.random_lens((320, 240), rng)
        camera = Camera.from_K(lens.K, 320, 240, lens.dist)
        corners = np.array([[0, 0], [319, 0], [0, 239], [319, 239.0]])
        xy = cv2.undistortPoints(corners[:, None], lens.K, np.array(lens.dist))[:, 0]
        assert np.linalg.norm(xy, axis=1).max() < float(camera.range_max)


def test_a_person_behind_another_one_is_hidden(studio):
    """Three people in a row on one ray, and one beside them."""
    K = np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])
    lens = Lens(K, 320, 240)
    person = studio.person(3)
    with studio.renderer.load(person) as loaded:

        def at(x, z):
            T = facing_pose(R_FACING, np.array([x, 0, 1.0]), z)
            return scenes.Placed(loaded, Pose(T), 300 * 0.24 / z, np.array([160, 120.0]))

        placed = [at(0, 0.8), at(0, 2.0), at(-0.35, 1.0), at(0.9, 1.0)]
        faces = scenes.labels_of(studio, placed, [], lens)
        front = [scenes.labels_of(studio, [p], [], lens)[0] for p in placed]
    fractions = [float(face['visible_fraction']) for face in faces]
    assert fractions[0] > 0.8
    assert fractions[1] < 0.1
    assert fractions[2] > 0.8
    assert fractions[3] == 0  # beyond the border
    assert float(front[1]['visible_fraction']) > 0.8
    assert not faces[3]['visible'].any()


def test_empty_tables_have_their_shapes(studio, monkeypatch):
    ranges = {**scenes.RANGES, 'heads_shares': [1.0], 'distractors_mean': 0}
    monkeypatch.setattr(scenes, 'RANGES', ranges)
    _, labels = scenes.render_range(studio, range(2), 0)
    assert labels['T_cam_head'].shape == (0, 4, 4)
    assert labels['uv'].shape[1:] == (len(IS_FACE), 2)
