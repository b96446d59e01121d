# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The single-shot detector: what cells mean and where poses lie, boxes, suppression, sizes."""

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.cameras import DISTORTIONS, make_camera
from helpers.heads import random_poses

from face_pose_ros.faces.single_shot import (
    HEAD_CENTRE,
    HEAD_SIZE_M,
    LARGEST_HEAD_PX,
    STRIDES,
    CellPoses,
    boxes_of_poses,
    cell_centres,
    cell_poses,
    decode_faces,
    level_sizes,
    middles_of_poses,
    padded,
    poses_in_camera,
)
from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import deformable_face

FACE = deformable_face().xyz_head


@pytest.mark.parametrize('lens', DISTORTIONS)
def test_cells_mean_poses_exactly_whatever_the_lens(lens, rng):
    camera = make_camera(lens)
    T = random_poses(300, camera, rng)
    cells = middles_of_poses(T, camera)
    again, valid = poses_in_camera(cells, camera)
    assert not np.isnan(cells.score).any()
    assert valid.all()
    assert_poses_close(again, T, max_deg=1e-5, max_mm=1e-5)


def test_the_apparent_size_is_that_in_the_image():
    camera = make_camera()
    T = np.eye(4)[None]
    T[:, :3, 3] = np.array([0.0, 0, 2.0]) - HEAD_CENTRE
    cells = middles_of_poses(T, camera)
    f = np.sqrt(camera.K[0, 0] * camera.K[1, 1])
    assert np.exp(cells.log_size[0]) == pytest.approx(f * HEAD_SIZE_M / 2.0)
    np.testing.assert_allclose(cells.uv[0], camera.K[:2, 2])


def test_cells_lie_where_their_pixels_are():
    centres = cell_centres(3, 4, 8)
    assert centres[0].tolist() == [3.5, 3.5]  # pixels 0 to 7
    assert centres[-1].tolist() == [27.5, 19.5]


def test_every_cell_of_every_stride_answers_once(rng):
    outputs = [rng.standard_normal((10, 96 // s, 160 // s)).astype(np.float32) for s in STRIDES]
    cells = cell_poses(outputs)
    assert cells.score.shape == (sum(96 // s * 160 // s for s in STRIDES),)
    # Row 2, column 7 of the grid of stride 16.
    i = (96 // 8) * (160 // 8) + 2 * (160 // 16) + 7
    values = outputs[1][:, 2, 7].astype(float)
    assert cells.score[i] == values[0]
    np.testing.assert_allclose(cells.uv[i], (np.array([7, 2]) + 0.5 + values[1:3]) * 16 - 0.5)
    assert np.exp(cells.log_size[i]) == pytest.approx(16 * np.exp(values[3]))
    np.testing.assert_array_equal(cells.columns[i], values[4:])


def test_levels_end_where_a_head_cannot_be_larger():
    assert level_sizes(140, 600) == [(140, 600)]
    assert level_sizes(384, 512) == [(384, 512), (128, 171)]
    assert min(level_sizes(2000, 3000)[-1]) <= LARGEST_HEAD_PX


def test_an_image_is_padded_to_multiples_of_32(rng):
    picture = rng.integers(0, 256, (81, 169, 3), dtype=np.uint8)
    planes = padded(picture)
    assert planes.shape == (1, 3, 96, 192)
    np.testing.assert_allclose(planes[0, 2, :81, :169], picture[..., 2] / 255, atol=1e-7)
    assert planes[..., 81:, :].max() == planes[..., 169:].max() == 0


def test_faces_have_the_boxes_of_their_poses_and_one_answer_each(rng):
    camera = make_camera('plumb_bob_4')
    T = random_poses(2, camera, rng, (0.8, 0.9), yaw_deg=40)
    T[:, 0, 3] = [-0.3, 0.3]
    truth = middles_of_poses(T, camera)
    # Each face is proposed by three cells, the middle one surest; one more is below threshold.
    cells = CellPoses(*(field[[0, 0, 0, 1, 1, 1, 0]] for field in truth))
    shift = np.array([-3.0, 0, 3, -3, 0, 3, 50])
    cells = cells._replace(
        score=np.array([1.0, 3, 2, 0.5, 2.5, 1, -6]), uv=cells.uv + shift[:, None]
    )
    faces = decode_faces(cells, camera, FACE, score_threshold=0.3)
    assert_poses_close(faces.T_cam_head, T, max_deg=1e-5, max_mm=1e-5)
    assert faces.scores.tolist() == pytest.approx([0.9526, 0.9241], abs=1e-3)
    uv = camera.project(rotations.apply(T, FACE)).uv
    np.testing.assert_allclose(faces.boxes_xyxy, np.concatenate([uv.min(1), uv.max(1)], -1))
    np.testing.assert_array_equal(faces.boxes_xyxy, boxes_of_poses(faces.T_cam_head, FACE, camera))


def test_no_face_is_an_ordinary_answer():
    camera = make_camera()
    cells = middles_of_poses(np.eye(4)[None] + 1.0, camera)._replace(score=np.zeros(1))
    faces = decode_faces(cells, camera, FACE, score_threshold=0.6)
    assert faces.T_cam_head.shape == (0, 4, 4)
    assert faces.boxes_xyxy.shape == (0, 4)
