# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of the head detector's cells."""

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.cameras import DISTORTIONS, make_camera
from helpers.heads import random_poses

from face_pose_ros.faces.head_cells import (
    HEAD_CENTRE,
    HEAD_SIZE_M,
    MAX_LOG_SIGMA,
    NUMBERS,
    SIGMA,
    STRIDES,
    cell_centres,
    cells_of_poses,
    decode,
    head_boxes,
    poses_of_cells,
)
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera

LOWEST = -1e9  # logit


@pytest.mark.parametrize('lens', DISTORTIONS)
def test_cells_mean_poses_exactly_through_every_lens(lens, rng):
    camera = make_camera(lens)
    T = random_poses(300, camera, rng)
    cells, is_seen = cells_of_poses(T, camera)
    again, has_ray = poses_of_cells(cells, camera)
    assert is_seen.all()
    assert has_ray.all()
    assert_poses_close(again, T, max_deg=1e-5, max_mm=1e-5)


@pytest.mark.parametrize('lens', ['none', 'plumb_bob_5', 'equidistant'])
def test_heads_at_every_roll_and_from_behind_have_cells(lens, rng):
    camera = make_camera(lens)
    T = random_poses(200, camera, rng)
    T[:, :3, :3] = rotations.exp(2 * rng.standard_normal((200, 3)))
    cells, _ = cells_of_poses(T, camera)
    again, _ = poses_of_cells(cells, camera)
    assert_poses_close(again, T, max_deg=1e-5, max_mm=1e-5)


def test_columns_that_are_not_orthonormal_mean_a_rotation(rng):
    camera = make_camera()
    cells, _ = cells_of_poses(random_poses(50, camera, rng), camera)
    noisy = cells._replace(columns=1.7 * cells.columns + 0.2 * rng.standard_normal((50, 6)))
    R = poses_of_cells(noisy, camera)[0][:, :3, :3]
    np.testing.assert_allclose(R @ R.swapaxes(1, 2), np.tile(np.eye(3), (50, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(R), 1)


def test_the_apparent_size_is_that_in_the_image():
    camera = make_camera()
    T = np.eye(4)[None]
    T[:, :3, 3] = np.array([0.0, 0, 2.0]) - HEAD_CENTRE
    cells, _ = cells_of_poses(T, camera)
    size = np.sqrt(camera.K[0, 0] * camera.K[1, 1]) * HEAD_SIZE_M / 2.0
    assert np.exp(cells.log_size[0]) == pytest.approx(size)
    np.testing.assert_allclose(cells.uv[0], camera.K[:2, 2])
    half = 0.5 * size
    expected = [[497.3 - half, 338.1 - half, 497.3 + half, 338.1 + half]]
    np.testing.assert_allclose(head_boxes(cells), expected)


def test_a_head_behind_the_camera_is_not_seen():
    T = np.tile(np.eye(4), (2, 1, 1))
    T[:, 2, 3] = [1.0, -1.0]
    assert cells_of_poses(T, make_camera())[1].tolist() == [True, False]


def test_a_cell_where_the_lens_has_no_ray_has_no_pose():
    # r (1 - r^2 / 2) turns back 381 px from the principal point.
    camera = Camera.from_K([700, 0, 640, 0, 700, 360, 0, 0, 1], 1280, 720, (-0.5, 0, 0, 0))
    outputs = empty(2, 3)
    outputs[3][0, :, :] = 3  # stride 64: columns 31.5, 95.5, 159.5
    outputs[3][1] = [[7.5, 0, 0], [0, 0, 0]]
    cells = decode(outputs, 0)
    assert poses_of_cells(cells, camera)[1].tolist() == [True, False, False, False, False, False]


def empty(rows, columns):
    """Outputs (NUMBERS, H, W) of all strides without a head; the coarsest grid is this large."""
    outputs = [
        np.zeros((NUMBERS, rows * 64 // stride, columns * 64 // stride), np.float32)
        for stride in STRIDES
    ]
    for output in outputs:
        output[0] = LOWEST
    return outputs


def test_cells_lie_where_their_pixels_are():
    centres = cell_centres(3, 4, 8)
    assert centres[0].tolist() == [3.5, 3.5]  # of pixels 0 to 7
    assert centres[1].tolist() == [11.5, 3.5]
    assert centres[-1].tolist() == [27.5, 19.5]


@pytest.mark.parametrize('grid', range(len(STRIDES)))
def test_numbers_of_every_stride_are_decoded(grid, rng):
    stride, outputs = STRIDES[grid], empty(2, 3)
    row, column = 1, 2
    numbers = rng.standard_normal(NUMBERS).astype(np.float32)
    outputs[grid][:, row, column] = numbers
    cells = decode(outputs, LOWEST / 2)
    x = numbers.astype(float)
    assert cells.score.tolist() == [x[0]]
    expected = (np.array([column, row]) + 0.5 + x[1:3]) * stride - 0.5
    np.testing.assert_allclose(cells.uv, expected[None])
    assert np.exp(cells.log_size[0]) == pytest.approx(stride * np.exp(x[3]))
    np.testing.assert_array_equal(cells.columns[0], x[4:10])
    np.testing.assert_allclose(cells.sigma[0], SIGMA * np.exp(x[10:]))


def test_every_cell_above_the_least_score_is_decoded_once(rng):
    outputs = empty(3, 4)
    for output in outputs:
        output[0] = rng.standard_normal(output.shape[1:])
    cells = decode(outputs, 0.3)
    expected = np.concatenate([output[0].ravel() for output in outputs])
    np.testing.assert_array_equal(cells.score, expected[expected > 0.3])
    centres = [cell_centres(*o.shape[1:], s) for o, s in zip(outputs, STRIDES, strict=True)]
    np.testing.assert_array_equal(cells.uv, np.concatenate(centres)[expected > 0.3])


def test_without_a_head_there_are_no_cells_and_no_poses():
    cells = decode(empty(1, 2), 0)
    assert cells.uv.shape == (0, 2)
    assert cells.sigma.shape == (0, 6)
    assert poses_of_cells(cells, make_camera())[0].shape == (0, 4, 4)
    assert head_boxes(cells).shape == (0, 4)


def test_standard_deviations_have_bounds():
    outputs = empty(1, 1)
    outputs[1][0, 0, :2] = 3
    outputs[1][10:, 0, :2] = [[-90, 90]]
    sigma = decode(outputs, 0).sigma
    bounds = SIGMA * np.exp([[-MAX_LOG_SIGMA], [MAX_LOG_SIGMA]])
    np.testing.assert_allclose(sigma, np.tile(bounds, 6))


def test_some_of_the_cells_are_taken_by_index_or_mask(rng):
    camera = make_camera()
    cells, _ = cells_of_poses(random_poses(5, camera, rng), camera)
    np.testing.assert_array_equal(cells.of(np.array([3, 1])).uv, cells.uv[[3, 1]])
    np.testing.assert_array_equal(cells.of(cells.uv[:, 0] > 0).columns, cells.columns)
