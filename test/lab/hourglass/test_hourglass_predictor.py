# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints of crops become keypoints of the image."""

import numpy as np
import pytest
from face_pose_lab.hourglass.numbers import INPUT_PX as SIDE
from face_pose_lab.hourglass.numbers import KeypointCalibration, read_keypoints
from face_pose_lab.hourglass.predictor import POINTS, SemanticPredictor

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.predictor import FACE_MESH_INDEX
from face_pose_ros.keypoints.semantic import IS_FACE
from face_pose_ros.results import Faces

CAMERA = Camera.from_K([5000, 0, 399.5, 0, 5000, 299.5, 0, 0, 1], 800, 600)
IMAGE = np.full((600, 800, 3), 128, np.uint8)
SIGMA = 0.4  # px, what the network says
CALIBRATION = KeypointCalibration(2.0, 3.0, 20.0, 0.4, 6.0)


def numbers_for(uv_crop, sigma_px=SIGMA):
    """Network output (436,) for keypoints (86, 2) px of equal standard deviation."""
    points = np.zeros((POINTS, 5))
    points[:, :2] = (uv_crop - 0.5 * (SIDE - 1)) / (0.5 * SIDE)
    points[:, 2:4] = np.log(sigma_px / (SIDE / 32))
    return np.concatenate([points.ravel(), np.zeros(6)]).astype(np.float32)


class Told:
    """A network that finds the keypoints where it is told, in every crop."""

    def __init__(self, uv_crop, sigma_px=SIGMA):
        self.uv_crop, self.numbers, self.calls = uv_crop, numbers_for(uv_crop, sigma_px), 0

    def __call__(self, image, crops, camera):
        assert crops.size_px == SIDE
        self.calls += 1
        return read_keypoints(np.tile(self.numbers, (len(crops), 1)))


def face_at(centre, side_px):
    left, top = centre[0] - side_px / 2, centre[1] - side_px / 2
    return Faces.of_boxes([[left, top, left + side_px, top + side_px]])


def upright_keypoints():
    """(86, 2) px of the crop: two eyes above a mouth, the rest in the middle."""
    uv_crop = np.full((POINTS, 2), (SIDE - 1) / 2)
    eyes = {33: (40, 50), 133: (56, 50), 362: (71, 50), 263: (87, 50)}
    midline = {10: (63.5, 31.5), 9: (63.5, 45), 199: (63.5, 90), 152: (63.5, 95.5)}
    for index, uv in (eyes | midline).items():
        uv_crop[FACE_MESH_INDEX.tolist().index(index)] = uv
    return uv_crop


def test_numbers_mean_places_and_any_covariance():
    raw = np.zeros((1, 5 * 2 + 6), np.float32)
    raw[0, 5:10] = 0.25, -0.5, np.log(2), np.log(3), 0.7
    keypoints = read_keypoints(raw, 64)
    np.testing.assert_allclose(keypoints.uv[0], [[31.5, 31.5], [39.5, 15.5]])
    L = 2 * np.array([[2, 0], [0.7 * 3, 3]])  # in units of a 32nd of the crop
    np.testing.assert_allclose(keypoints.cov_uv[0, 1], L @ L.T, rtol=1e-6)
    blurred = keypoints.cov_uv[0] + 16 * np.eye(2)
    np.testing.assert_allclose(keypoints.confidence[0], 16 / np.sqrt(np.linalg.det(blurred)))


def test_crop_pixels_are_carried_to_the_image_with_their_covariance():
    """Through a long lens, where a crop is a scaled part of the image."""
    told = Told(upright_keypoints())
    predictor = SemanticPredictor(told, CALIBRATION, max_crops=1)
    found = predictor.predict(IMAGE, face_at((500, 250), 100), CAMERA, margin=2.0)
    scale = 2 * 100 / SIDE  # image pixels per crop pixel
    expected = np.array([500.0, 250.0]) + scale * (told.uv_crop - (SIDE - 1) / 2)
    np.testing.assert_allclose(found.uv[0], expected, rtol=0, atol=0.05)
    sigma = scale * (2.0 * SIGMA**2 + 3.0) ** 0.5
    np.testing.assert_allclose(found.sigma_px[0], sigma, rtol=0.02)


@pytest.mark.parametrize(('sigma_px', 'is_there'), [(1.0, True), (20.0, False)])
def test_uncertain_keypoints_mean_no_face(sigma_px, is_there):
    predictor = SemanticPredictor(Told(upright_keypoints(), sigma_px), CALIBRATION, max_crops=1)
    found = predictor.predict(IMAGE, face_at((400, 300), 120), CAMERA)
    assert (found.presence[0] > 0.5) == is_there
    assert 0 < found.presence[0] < 1


def test_a_new_face_gets_all_crops_and_a_tracked_one_gets_one():
    told = Told(upright_keypoints())
    predictor = SemanticPredictor(told, CALIBRATION, max_crops=3)
    found = predictor.predict(IMAGE, face_at((400, 300), 120), CAMERA)
    assert told.calls == 3
    predictor.follow(IMAGE, found.uv[:, IS_FACE], CAMERA)
    assert told.calls == 4


def test_with_nothing_to_measure_no_network_runs():
    told = Told(upright_keypoints())
    predictor = SemanticPredictor(told, CALIBRATION, max_crops=3)
    assert len(predictor.predict(IMAGE, Faces.of_boxes([]), CAMERA)) == 0
    assert len(predictor.follow(IMAGE, np.zeros((0, 56, 2)), CAMERA)) == 0
    assert told.calls == 0


def test_a_crop_without_rays_shows_no_face():
    """A fisheye's picture has corners that no ray reaches."""
    K = [300, 0, 399.5, 0, 300, 299.5, 0, 0, 1]
    fisheye = Camera.from_K(K, 800, 600, [0.0, 0.0, 0.0, -0.05], 'equidistant')
    predictor = SemanticPredictor(Told(upright_keypoints()), CALIBRATION, max_crops=1)
    found = predictor.predict(IMAGE, face_at((790, 590), 100), fisheye)
    assert found.presence.tolist() == [0]
