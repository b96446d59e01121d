# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Face Mesh on crops: averaged, mirrored, and how uncertain its keypoints are."""

import numpy as np
import pytest
from face_pose_lab.face_mesh.network import face_mesh_v2
from face_pose_lab.face_mesh.points import mirror_partners
from face_pose_lab.face_mesh.predictor import FaceMeshPredictor
from face_pose_lab.face_mesh.uncertainty import apparent_turn, keypoint_uncertainty
from helpers.cameras import make_camera
from helpers.heads import R_CAM_FRONTAL
from helpers.portraits import portrait_view

from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.crops import crops_around_boxes
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.results import Faces

BOX = np.array([[172.0, 131.0, 355.0, 334.0]])
FACE = Faces.of_boxes(BOX)


class Told:
    """A network that finds in crop i what it is told to."""

    def __init__(self, uv, presence):
        self.uv, self.presence = uv.astype(np.float32), np.array(presence, np.float32)

    def __call__(self, image, crops, camera):
        count = len(crops)
        return self.uv[:count], self.uv[:count, :, 0], self.presence[:count]


@pytest.fixture(scope='module')
def network():
    return TorchNetwork(face_mesh_v2(), 'cpu').on_crops


def test_mirror_partners_change_sides():
    partners = mirror_partners()
    np.testing.assert_array_equal(partners[partners], np.arange(478))
    # Corners of eyes and mouth, cheeks; the tip of the nose stays.
    assert partners[[33, 61, 234, 4]].tolist() == [263, 291, 454, 4]
    # Iris: centre, the side towards the picture's right, above.
    assert partners[[468, 469, 470]].tolist() == [473, 476, 475]


def test_the_mirror_shows_the_same_face(network):
    """Every point, irises included, is where its partner is in a mirrored picture."""
    photo, camera = portrait_view()
    predictor = FaceMeshPredictor(network, max_crops=2)
    once = predictor.predict(photo, FACE, camera)
    box = BOX * [-1, 1, -1, 1] + [511, 0, 511, 0]
    flipped = np.ascontiguousarray(photo[:, ::-1])
    other = predictor.predict(flipped, Faces.of_boxes(box[:, [2, 1, 0, 3]]), camera)
    back = other.uv[:, mirror_partners()]
    back[..., 0] = 511 - back[..., 0]
    off_px = np.linalg.norm((back - once.uv)[0], axis=-1)
    assert np.median(off_px) < 2
    assert off_px[468:].max() < 3
    assert off_px.max() < 8


def test_the_average_of_an_easy_face_is_about_the_single_crop(network):
    photo, camera = portrait_view()
    predictor = FaceMeshPredictor(network, max_crops=2)
    once = predictor.predict(photo, FACE, camera)
    average, spread = predictor.average(photo, once, camera, 8)
    assert np.linalg.norm(average.uv - once.uv, axis=-1).mean() < 1.5
    assert 0 < spread[0] < 4
    assert average.presence[0] > 0.9


def test_what_crops_disagree_on_is_the_spread(rng):
    camera = make_camera()
    predictor = FaceMeshPredictor(Told(rng.uniform(0, 200, (4, 478, 2)), [0.9, 0.1, 0.8, 0.7]), 1)
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    once = predictor.predict(image, Faces.of_boxes([[400, 300, 500, 400]]), camera)
    average, spread = predictor.average(image, once, camera, 4)
    assert spread[0] > 100
    # Of 0.9 in the first crop and 0.9, 0.1, 0.8, 0.7 in the others.
    assert average.presence[0] == pytest.approx(0.9)
    scale = average.cov_uv[..., 0, 0] / once.cov_uv[..., 0, 0]
    assert (scale > 10).all()


def test_presence_needs_more_than_one_crop():
    photo, camera = portrait_view()
    uv = np.full((8, 478, 2), 100.0)
    uv[..., 1] += np.arange(478) / 5
    predictor = FaceMeshPredictor(Told(uv, [0.9] + 7 * [0.2]), max_crops=1)
    once = predictor.predict(photo, FACE, camera)
    predictor.network.presence = np.full(8, 0.2)
    assert predictor.average(photo, once, camera, 4)[0].presence[0] == pytest.approx(0.2)


def test_a_covariance_is_that_of_the_crop_in_pixels_of_the_image(network):
    camera = make_camera()
    predictor = FaceMeshPredictor(network, max_crops=1)
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    faces = Faces.of_boxes([[400, 300, 500, 400]])
    crops = crops_around_boxes(faces.boxes_xyxy, camera, 256, 1.5)
    keypoints = predictor.predict(image, faces, camera)
    back = np.linalg.inv(crops.jacobian(camera)[0])
    cov = back @ keypoints.cov_uv[0] @ back.T
    of_front = keypoint_uncertainty().cov_crop
    growth = cov[0, 0, 0] / of_front[0, 0, 0]
    assert growth >= 1
    np.testing.assert_allclose(cov, growth * of_front, rtol=1e-5, atol=1e-5)


def test_the_uncertainty_is_symmetric_and_definite():
    cov = keypoint_uncertainty().cov_crop
    assert np.linalg.eigvalsh(cov).min() > 0.1
    partners = mirror_partners()[:468]
    flip = np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(cov[:468], flip * cov[partners], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('yaw_deg', [0, 20, 45, 70])
def test_the_apparent_turn_is_the_sine_of_yaw(yaw_deg):
    turn = rotations.exp(np.array([0.0, np.deg2rad(yaw_deg), 0.0]))
    uv = 1000 * (deformable_face().xyz_head @ (turn @ R_CAM_FRONTAL).T)[None, :, :2]
    assert apparent_turn(uv)[0] == pytest.approx(np.sin(np.deg2rad(yaw_deg)), abs=0.1)
    assert apparent_turn(-uv)[0] == pytest.approx(apparent_turn(uv)[0])


def test_uncertainty_grows_with_the_turn_and_with_the_spread():
    uncertainty = keypoint_uncertainty()
    cov = uncertainty.of_average(np.array([0.0, 0.5, 5.0]))
    assert (cov[1:, :, 0, 0] > 1.5 * cov[:-1, :, 0, 0]).all()
    ahead, aside = np.zeros((2, 478, 2))
    aside[4, 0], aside[152, 1] = 40, 100  # tip of the nose, chin
    ahead[152, 1] = 100
    factor = uncertainty.factor_of_crop(np.stack([ahead, aside]))
    assert factor[1] > 1.5 * factor[0]
