"""Keypoints of crops become keypoints of the image."""

import pytest
import torch

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.hourglass import KeypointCalibration
from face_pose_ros.keypoints.regression import CropKeypoints
from face_pose_ros.keypoints.semantic_predictor import (
    FACE_MESH_INDEX,
    IS_FACE,
    POINTS,
    SemanticPredictor,
)
from face_pose_ros.types import Faces

CAMERA = Camera.from_K([5000, 0, 399.5, 0, 5000, 299.5, 0, 0, 1], 800, 600)
IMAGE = torch.full((600, 800, 3), 128, dtype=torch.uint8)
SIDE = 128
SIGMA = 0.4  # px, what the network says
CALIBRATION = KeypointCalibration(2.0, 3.0, 20.0, 0.4, 6.0)


class Told:
    """A network that sees the keypoints where it is told, in every crop."""

    def __init__(self, uv_crop, confidence=1.0):
        self.uv_crop, self.confidence, self.calls = uv_crop, confidence, 0

    def __call__(self, crops):
        assert crops.shape[1:] == (3, SIDE, SIDE)
        self.calls += 1
        cov_uv = SIGMA**2 * torch.eye(2).expand(POINTS, 2, 2)
        one = self.uv_crop, cov_uv, torch.full((POINTS,), self.confidence)
        return CropKeypoints(*(value.expand(len(crops), *value.shape) for value in one))


def face_at(centre, side_px):
    left, top = centre[0] - side_px / 2, centre[1] - side_px / 2
    box = torch.tensor([[left, top, left + side_px, top + side_px]])
    return Faces(box, torch.ones(1), torch.full((1, 6, 2), torch.nan))


def upright_keypoints():
    """(86, 2) px of the crop: two eyes above a mouth, the rest in the middle."""
    uv_crop = torch.full((POINTS, 2), (SIDE - 1) / 2)
    eyes = {33: (40, 50), 133: (56, 50), 362: (71, 50), 263: (87, 50)}
    midline = {10: (63.5, 31.5), 9: (63.5, 45), 199: (63.5, 90), 152: (63.5, 95.5)}
    for index, uv in (eyes | midline).items():
        uv_crop[FACE_MESH_INDEX.tolist().index(index)] = torch.tensor(uv)
    return uv_crop


def test_crop_pixels_are_carried_to_the_image_with_their_covariance():
    """Through a long lens, where a crop is a scaled part of the image."""
    told = Told(upright_keypoints())
    predictor = SemanticPredictor(told, SIDE, CALIBRATION, looks=1)
    found = predictor.predict(IMAGE, face_at((500, 250), 100), CAMERA, margin=2.0)
    scale = 2 * 100 / SIDE  # image pixels per crop pixel
    expected = torch.tensor([500.0, 250.0]) + scale * (told.uv_crop - (SIDE - 1) / 2)
    torch.testing.assert_close(found.uv[0].float(), expected, rtol=0, atol=0.05)
    sigma = scale * (2.0 * SIGMA**2 + 3.0) ** 0.5
    torch.testing.assert_close(
        found.sigma_px[0].float(), torch.full((POINTS,), sigma), rtol=0.02, atol=0
    )


@pytest.mark.parametrize(('confidence', 'is_there'), [(0.6, True), (0.2, False)])
def test_unsure_keypoints_show_no_face(confidence, is_there):
    told = Told(upright_keypoints(), confidence)
    predictor = SemanticPredictor(told, SIDE, CALIBRATION, looks=1)
    found = predictor.predict(IMAGE, face_at((400, 300), 120), CAMERA)
    assert bool(found.presence[0] > 0.5) == is_there
    assert 0 < found.presence[0] < 1


def test_a_new_face_gets_its_looks_and_a_known_one_gets_one():
    told = Told(upright_keypoints())
    predictor = SemanticPredictor(told, SIDE, CALIBRATION, looks=3)
    found = predictor.predict(IMAGE, face_at((400, 300), 120), CAMERA)
    assert told.calls == 3
    predictor.follow(IMAGE, found.uv[:, IS_FACE], CAMERA)
    assert told.calls == 4


def test_nothing_to_measure_asks_nothing():
    told = Told(upright_keypoints())
    predictor = SemanticPredictor(told, SIDE, CALIBRATION, looks=3)
    none = Faces(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 6, 2))
    assert len(predictor.predict(IMAGE, none, CAMERA)) == 0
    assert len(predictor.follow(IMAGE, torch.zeros(0, 56, 2), CAMERA)) == 0
    assert told.calls == 0


def test_a_crop_without_rays_shows_no_face():
    """A fisheye's picture has corners that no ray reaches."""
    K = [300, 0, 399.5, 0, 300, 299.5, 0, 0, 1]
    fisheye = Camera.from_K(K, 800, 600, [0.0, 0.0, 0.0, -0.05], 'equidistant')
    predictor = SemanticPredictor(Told(upright_keypoints()), SIDE, CALIBRATION, looks=1)
    found = predictor.predict(IMAGE, face_at((790, 590), 100), fisheye)
    assert found.presence.tolist() == [0]
