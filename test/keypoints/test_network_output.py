# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of the network's output, and its transformation to the image."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.cameras import DISTORTIONS, make_camera

from face_pose_ros.geometry.crops import crops_around_boxes
from face_pose_ros.keypoints.network_output import (
    INPUT_PX,
    KEYPOINTS,
    Calibration,
    read_keypoints,
)

BOXES = [[430.0, 250.0, 570.0, 400.0], [300.0, 100.0, 380.0, 200.0]]
CALIBRATION = Calibration(1.7, 0.3, 2.0, 4.0)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_keypoints_are_carried_to_the_image_exactly(name, rng):
    camera = make_camera(name)
    crops = crops_around_boxes(BOXES, camera, INPUT_PX, 1.5)
    numbers = rng.normal(size=(2, 5 * KEYPOINTS + 7)).astype(np.float32)
    points = numbers[:, :-7].reshape(2, KEYPOINTS, 5).astype(float)
    points[..., 2:4] = points[..., 2:4].clip(-3, 3)
    points[..., :2] *= 4  # far beyond the crop's border too, where narrow lenses end
    numbers[:, :-7] = points.reshape(2, -1)
    found = read_keypoints(numbers, crops, camera, CALIBRATION)

    uv, seen = crops.to_image(63.5 + 12.8 * points[..., :2].astype(np.float32), camera)
    # Points near the plane of the camera, where rounding is magnified without end, aside.
    near = np.abs(uv).max(-1) < 1e5
    assert near.mean() > 0.9
    np.testing.assert_allclose(found.uv[near], uv[near], rtol=1e-6, atol=1e-3)
    a, d = np.exp(points[..., 2]), np.exp(points[..., 3])
    L = 2 * np.array([[a, 0 * a], [points[..., 4] * d, d]]).transpose(2, 3, 0, 1)
    J = crops.jacobian(camera)[:, None]
    cov = J @ (1.7 * L @ L.swapaxes(-1, -2) + 0.3 * np.eye(2)) @ J.swapaxes(-1, -2)
    np.testing.assert_allclose(found.cov_uv[seen], cov[seen], rtol=1e-4)
    nothing = np.broadcast_to(np.diag([np.inf, np.inf]), found.cov_uv[~seen].shape)
    np.testing.assert_array_equal(found.cov_uv[~seen], nothing)
    presence = 1 / (1 + np.exp(-2 * (numbers[:, -7] - 4)))
    np.testing.assert_allclose(found.presence, presence, rtol=1e-5)


def test_no_certainty_is_without_bounds():
    camera = make_camera()
    crops = crops_around_boxes(BOXES, camera, INPUT_PX, 1.5)
    numbers = np.zeros((2, 5 * KEYPOINTS + 7), np.float32)
    numbers[0, 2:-7:5] = numbers[0, 3:-7:5] = -50
    numbers[1, 2:-7:5] = numbers[1, 3:-7:5] = 50
    sigma_px = read_keypoints(numbers, crops, camera, Calibration()).sigma_px
    scale = np.sqrt(np.abs(np.linalg.det(crops.jacobian(camera))))[:, None]
    np.testing.assert_allclose((sigma_px / scale)[0], 2 * np.exp(-3), rtol=0.05)
    np.testing.assert_allclose((sigma_px / scale)[1], 2 * np.exp(3), rtol=0.05)


def test_a_crop_without_rays_shows_no_face():
    camera = make_camera()
    crops = crops_around_boxes(BOXES, camera, INPUT_PX, 1.5)
    crops = replace(crops, valid=np.array([True, False]))
    numbers = np.full((2, 5 * KEYPOINTS + 7), 9.0, np.float32)
    found = read_keypoints(numbers, crops, camera, Calibration())
    assert found.presence[0] > 0.99
    assert found.presence[1] == 0
    assert np.isinf(np.diagonal(found.cov_uv[1], axis1=-2, axis2=-1)).all()
