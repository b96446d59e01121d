# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Number of crops per face, and faces that are lost."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.heads import R_CAM_FRONTAL, frontal
from helpers.photographs import PORTRAIT_FACES
from helpers.portraits import portrait_view

from face_pose_ros.engines.network import Network
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.network_output import (
    INPUT_PX,
    KEYPOINTS,
    Calibration,
    packaged_calibration,
)
from face_pose_ros.keypoints.predictor import (
    FACE_MESH_INDEX,
    KeypointPredictor,
    are_far_off,
    crops_around_heads,
)
from face_pose_ros.keypoints.semantic import IS_FACE
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.results import CoarsePoses, Faces

CAMERA = Camera.from_K([5000, 0, 399.5, 0, 4900, 299.5, 0, 0, 1], 800, 600)
IMAGE = np.full((600, 800, 3), 128, np.uint8)
# (86, 2) px of an upright face 100 px high, as a long lens sees it, from its middle.
FACE = semantic_head().xyz_head[:, 1:] * [100, -100] / np.ptp(semantic_head().xyz_head[IS_FACE, 2])
FACE -= 0.5 * (FACE[IS_FACE].max(0) + FACE[IS_FACE].min(0))


class Sees(Network):
    """A network that finds faces where they are, or half-way there from what it is shown."""

    def __init__(self, *middles, half_way=False, log_sigma=-2.0):
        self.middles = [np.array(middle, float) for middle in middles]
        self.half_way, self.log_sigma, self.batches, self.sides = half_way, log_sigma, [], []

    def on_crops(self, image, crops, camera, shrink=1):
        assert crops.size_px == INPUT_PX
        self.batches.append(len(crops))
        self.sides.append(INPUT_PX * 4950 / crops.focal_px[0])  # px of the image
        numbers = np.zeros((len(crops), 5 * KEYPOINTS + 7), np.float32)
        for i in range(len(crops)):
            shown = crops[np.array([i])].to_image([[[63.5, 63.5]]], camera)[0][0, 0]
            middle = min(self.middles, key=lambda m: np.linalg.norm(m - shown))
            if self.half_way:
                middle = 0.5 * (middle + shown)
            rays = camera.unproject(FACE + middle).rays @ crops.R_cam_crop[i]
            uv = crops.focal_px[i] * rays[:, :2] / rays[:, 2:]
            points = numbers[i, :-7].reshape(KEYPOINTS, 5)
            points[:, :2] = uv / 12.8
            points[:, 2:4] = self.log_sigma
        numbers[:, -7] = 9
        return (numbers,)


class Shy(Sees):
    """Sees the faces only in some crops: logits of presence in each batch, in turn."""

    def __init__(self, middles, *logits):
        super().__init__(*middles)
        self.logits = list(logits)

    def on_crops(self, image, crops, camera, shrink=1):
        (numbers,) = super().on_crops(image, crops, camera, shrink)
        numbers[:, -7] = self.logits.pop(0)
        return (numbers,)


def face_at(u, v):
    return FACE + np.array([u, v])


def boxes(*middles, side_px=100.0):
    half = 0.5 * side_px
    return Faces.of_boxes([[u - half, v - half, u + half, v + half] for u, v in middles])


def detected(*middles, roll_deg=0.0, size=1.0):
    """Detections whose poses put the faces at these pixels, with a roll and a relative size."""
    xyz = semantic_head().xyz_head[IS_FACE]
    distance = 4950 * np.ptp(xyz[:, 2]) / (100 * size)
    R = rotations.exp([0, 0, np.deg2rad(roll_deg)]) @ R_CAM_FRONTAL
    rays = CAMERA.unproject(np.array(middles, float)).rays
    t = distance * rays / rays[:, 2:] - R @ (0.5 * (xyz.min(0) + xyz.max(0)))
    coarse = CoarsePoses(rotations.from_rt(R, t), np.tile(np.eye(6), (len(t), 1, 1)))
    return replace(boxes(*middles), coarse=coarse)


@pytest.mark.parametrize(('max_crops', 'side_px'), [(1, 1.6 * 120), (3, 150)])
def test_a_given_box_is_cropped_again_where_the_keypoints_are(max_crops, side_px):
    network = Sees((400, 300))
    predictor = KeypointPredictor(network, Calibration(), max_crops)
    found = predictor.predict(IMAGE, boxes((425, 300), side_px=120), CAMERA)
    assert network.batches == max_crops * [1]
    np.testing.assert_allclose(found.uv[0], face_at(400, 300), atol=1e-3)
    assert found.presence[0] > 0.99
    assert network.sides[-1] == pytest.approx(side_px, rel=0.03)


@pytest.mark.parametrize('roll_deg', [0, 8, -170])
def test_the_first_crop_is_upright_around_the_detected_pose(roll_deg):
    predictor = KeypointPredictor(Sees((400, 300)), Calibration(), max_crops=1)
    crops = predictor.first_crops(detected((400, 300), roll_deg=roll_deg), CAMERA)
    (uv,), _ = crops.to_image([[[63.5, 63.5], [63.5, 20.0]]], CAMERA)
    np.testing.assert_allclose(uv[0], [400, 300], atol=2)
    up = uv[1] - uv[0]
    assert np.rad2deg(np.arctan2(up[0], -up[1])) == pytest.approx(roll_deg, abs=2)
    assert INPUT_PX * 4950 / crops.focal_px[0] == pytest.approx(150, rel=0.03)


def test_a_detection_gets_all_its_crops_each_around_the_last_ones_keypoints():
    network = Sees((200, 300), (600, 250))
    predictor = KeypointPredictor(network, Calibration(), max_crops=3)
    found = predictor.predict(IMAGE, detected((202, 300), (600, 251), size=1.04), CAMERA)
    assert network.batches == [2, 2, 2]
    np.testing.assert_allclose(found.uv, [face_at(200, 300), face_at(600, 250)], atol=1e-3)


@pytest.mark.parametrize(
    'wrong', [{'roll_deg': 180}, {'roll_deg': 15}, {'size': 1.3}, {'size': 0.7}]
)
def test_the_second_crop_of_a_wrong_detection_is_right(wrong):
    network = Sees((200, 300), (600, 250))
    predictor = KeypointPredictor(network, Calibration(), max_crops=3)
    faces = detected((200, 300), **wrong).join(detected((600, 250)))
    found = predictor.predict(IMAGE, faces, CAMERA)
    assert network.batches == [2, 2, 2]
    assert network.sides[-1] == pytest.approx(150, rel=0.03)
    np.testing.assert_allclose(found.uv, [face_at(200, 300), face_at(600, 250)], atol=1e-3)


NOT, HARDLY, SEEN = -9, -3, 9  # presences of 0.0001, 0.05 and 0.9999


@pytest.mark.parametrize(
    ('score', 'logits', 'is_found'),
    [
        (0.5, [NOT, SEEN, SEEN], True),  # in the second crop
        (0.5, [HARDLY, NOT], False),  # not worth crops at other rolls
        (0.7, [HARDLY, NOT, [NOT, HARDLY, NOT], SEEN, SEEN], True),
        (0.7, [NOT, NOT, [NOT, NOT, NOT], NOT], False),
    ],
)
def test_a_face_unseen_at_first_gets_further_crops_and_from_some_score_on_other_rolls(
    score, logits, is_found
):
    network = Shy([(400, 300)], *logits)
    predictor = KeypointPredictor(network, Calibration(), max_crops=3)
    faces = replace(detected((400, 300)), scores=np.array([score], np.float32))
    found = predictor.predict(IMAGE, faces, CAMERA)
    assert network.logits == []
    assert (found.presence > 0.99).tolist() == [is_found]


@pytest.mark.parametrize(
    ('u', 'second', 'batches', 'is_found'),
    [
        (540, HARDLY, [2, 1, 1], False),  # beside the other face: its collar, say
        (540, SEEN, [2, 2, 2], True),
        (560, HARDLY, [2, 1, 1, 1, 1], True),
    ],
)
def test_a_detection_beside_a_found_face_must_be_clear_at_once(u, second, batches, is_found):
    logits = [[SEEN, second], *[SEEN] * 4]
    network = Shy([(400, 300), (u, 300)], *logits)
    predictor = KeypointPredictor(network, Calibration(), max_crops=3)
    found = predictor.predict(IMAGE, detected((400, 300), (u, 300)), CAMERA)
    assert network.batches == batches
    assert (found.presence > 0.99).tolist() == [True, is_found]
    assert found.presence[1] > 0.99 or found.presence[1] == 0


def test_one_crop_is_all_that_one_crop_allows():
    network = Sees((200, 300))
    predictor = KeypointPredictor(network, Calibration(), max_crops=1)
    predictor.predict(IMAGE, detected((230, 300), roll_deg=180, size=1.3), CAMERA)
    assert network.batches == [1]


@pytest.fixture(scope='module')
def packaged():
    calibration = packaged_calibration()
    return KeypointPredictor(load_networks('cpu').keypoints, calibration, max_crops=4)


def detected_portrait(name, roll_deg, size):
    """A portrait's camera, its face as a given box, and as detected with a wrong roll and size."""
    _, camera = portrait_view(name)
    (x, y), height = PORTRAIT_FACES[name]
    half = 0.5 * height
    given = Faces.of_boxes([[x - half, y - half, x + half, y + half]])
    T = frontal(camera.unproject([x, y - 0.15 * height]).rays, (0, 0, np.deg2rad(roll_deg)))
    T[:3, 3] *= camera.K[0, 0] * 0.18 / (size * height)
    return camera, given, replace(given, coarse=CoarsePoses(T[None], np.eye(6)[None]))


@pytest.mark.parametrize('name', PORTRAIT_FACES)
@pytest.mark.parametrize(
    ('roll_deg', 'size'),
    [(0, 1.0), (0, 1.3), (0, 0.7), (-60, 1.2), (60, 1.0), (90, 1.0), (180, 1.2), (-100, 1.0)],
)
def test_crops_of_a_wrong_detection_converge_to_those_of_a_box(packaged, name, roll_deg, size):
    image, _ = portrait_view(name)
    camera, given, wrong = detected_portrait(name, roll_deg, size)
    expected, found = (packaged.predict(image, faces, camera) for faces in (given, wrong))
    assert found.presence[0] > 0.9
    off_px = np.linalg.norm(found.uv - expected.uv, axis=-1)
    assert np.median(off_px) < 0.02 * PORTRAIT_FACES[name][1]


def test_a_followed_face_gets_one_crop_and_only_the_one_that_moved_another():
    network = Sees((200, 300), (600, 250))
    predictor = KeypointPredictor(network, Calibration(), max_crops=2)
    before = np.stack([face_at(203, 300), face_at(570, 250)])[:, IS_FACE]
    found = predictor.follow(IMAGE, before, CAMERA)
    assert network.batches == [2, 1]
    np.testing.assert_allclose(found.uv, [face_at(200, 300), face_at(600, 250)], atol=1e-3)
    assert (found.presence > 0.99).all()


def test_a_face_that_no_crop_catches_up_with_is_lost():
    network = Sees((1900, 300), half_way=True)
    predictor = KeypointPredictor(network, Calibration(), max_crops=1)
    found = predictor.follow(IMAGE, face_at(300, 300)[None, IS_FACE], CAMERA)
    assert network.batches == [1, 1, 1, 1]
    assert found.presence.tolist() == [0]


@pytest.mark.parametrize(('sigma_px', 'presence'), [(3.0, 1.0), (12.0, 0.0)])
def test_a_face_whose_keypoints_are_uncertain_is_occluded_or_none(sigma_px, presence):
    crop_px = sigma_px * INPUT_PX / 150
    predictor = KeypointPredictor(
        Sees((400, 300), log_sigma=np.log(crop_px / 2)), Calibration(), max_crops=2
    )
    found = predictor.follow(IMAGE, face_at(400, 300)[None, IS_FACE], CAMERA)
    assert found.presence[0] == pytest.approx(presence, abs=1e-3)
    new = predictor.predict(IMAGE, boxes((400, 300)), CAMERA)
    assert new.presence[0] == pytest.approx(presence, abs=1e-3)


def test_with_nothing_to_measure_no_network_runs():
    network = Sees((400, 300))
    predictor = KeypointPredictor(network, Calibration(), max_crops=3)
    assert len(predictor.predict(IMAGE, Faces.of_boxes([]), CAMERA)) == 0
    assert len(predictor.follow(IMAGE, np.zeros((0, 56, 2)), CAMERA)) == 0
    assert network.batches == []


def test_the_crop_is_one_and_a_half_times_the_face():
    (focal_px,) = crops_around_heads(face_at(400, 300)[None, IS_FACE], CAMERA).focal_px
    assert focal_px == pytest.approx(4950 * INPUT_PX / 150, rel=0.02)
    assert len(FACE_MESH_INDEX) == IS_FACE.sum() == 56


@pytest.mark.parametrize(
    ('shift_px', 'side_px', 'far_off'),
    [(0, 100, False), (6, 100, False), (9, 100, True), (0, 108, False), (0, 112, True)],
)
def test_far_off_is_a_matter_of_place_and_scale(shift_px, side_px, far_off):
    crops = crops_around_heads(face_at(400, 300)[None, IS_FACE], CAMERA)
    found = 0.01 * side_px * FACE + np.array([400 + shift_px, 300])
    assert are_far_off(crops, found[None], CAMERA).tolist() == [far_off]


def test_far_off_is_a_matter_of_roll_too():
    upright = face_at(400, 300)[None, IS_FACE]
    for roll_deg, far_off in ((8, False), (12, True), (-12, True)):
        a = np.deg2rad(roll_deg)
        R = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        rolled = (FACE @ R.T + np.array([400, 300]))[None]
        crops = crops_around_heads(upright, CAMERA)
        assert are_far_off(crops, rolled, CAMERA).tolist() == [far_off]
