# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A photograph that is turned out of plane shows what its new labels say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from face_pose_lab.keypoint_net.profiled import Turner
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints import semantic
from face_pose_ros.pose.face_model import semantic_head

SIDE_PX = 160
CAMERA = Camera.from_K([395, 0, 79.5, 0, 395, 79.5, 0, 0, 1], SIDE_PX, SIDE_PX)
FACING = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


@pytest.fixture(scope='module')
def turner() -> Turner:
    return Turner()


def head() -> tuple[NDArray, NDArray, NDArray]:
    """Pose, shape and keypoints (86, 2) px of a person."""
    model = semantic_head()
    shape = np.zeros(len(model.shape_names))
    shape[1:4] = (0.8, -0.6, 0.5)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('yx', [9, -6], degrees=True).as_matrix() @ FACING
    T[:3, 3] = (0.003, 0.002, 0.92)
    points = model.points(shape[None])[0] @ T[:3, :3].T + T[:3, 3]
    return T, shape, CAMERA.project(points).uv


def marked(uv: NDArray, name: str) -> NDArray[np.uint8]:
    """A grey picture with a white dot at a keypoint."""
    picture = np.full((SIDE_PX, SIDE_PX, 3), 60, np.uint8)
    u, v = uv[semantic.NAMES.index(name)]
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    dot = 195 * np.exp(-0.5 * ((columns - u) ** 2 + (rows - v) ** 2) / 1.8**2)
    return np.clip(picture + dot[..., None], 0, 255).astype(np.uint8)


def test_shape_and_pose_come_back(turner: Turner) -> None:
    T, _, uv = head()
    found = turner.shape_of(uv, CAMERA)
    assert found is not None
    turned = Rotation.from_matrix(found[0][:3, :3].T @ T[:3, :3]).magnitude()
    assert np.degrees(turned) < 0.5


@pytest.mark.parametrize('name', ['nose_tip', 'eye_inner_right', 'mouth_corner_left', 'chin'])
@pytest.mark.parametrize('yaw_deg', [-30.0, 25.0])
def test_skin_and_label_are_at_the_same_pixels(turner: Turner, name: str, yaw_deg: float) -> None:
    _, _, uv = head()
    turn = Rotation.from_euler('yx', [yaw_deg, 8], degrees=True)
    result = turner.turned(marked(uv, name), uv, CAMERA, turn)
    assert result is not None
    picture, uv_new, T_new = result
    expected = uv_new[semantic.NAMES.index(name)]
    assert np.linalg.norm(expected - uv[semantic.NAMES.index(name)]) > 4
    grey = cv2.GaussianBlur(picture[..., 0].astype(np.float32), (0, 0), 1.0)
    row, column = np.unravel_index(np.argmax(grey), grey.shape)
    assert np.linalg.norm(expected - (column, row)) < 2.0
    # Turned by the given angle; the labels are those of the turned model.
    T, _, _ = head()
    applied = Rotation.from_matrix(T_new[:3, :3] @ T[:3, :3].T)
    assert np.degrees((applied * turn.inv()).magnitude()) < 0.6


def test_no_turn_leaves_the_image_as_it_is(turner: Turner) -> None:
    _, _, uv = head()
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    picture = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    result = turner.turned(picture, uv, CAMERA, Rotation.identity())
    assert result is not None
    off = np.abs(result[0].astype(int) - picture)[8:-8, 8:-8]
    assert off.mean() < 1.0
    np.testing.assert_allclose(result[1], uv, atol=0.3)
