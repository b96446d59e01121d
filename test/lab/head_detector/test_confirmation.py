# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The study from which the limits of the keypoints' uncertainty are chosen."""

import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.head_detector.confirmation import (
    Detections,
    _pasted,
    false_in_scenes,
    heads_in_backgrounds,
)
from face_pose_lab.head_detector.heads import Similarity
from lab.head_detector.material import BlackBackgrounds, MarkedHeads, MarkedScenes

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.predictor import Limits
from face_pose_ros.results import Faces


def red_at(image):
    """(2,) px, middle of the red disc."""
    v, u = np.nonzero(image[..., 0].astype(int) - image[..., 1] > 120)
    return np.array([u.mean(), v.mean()])


class SeesRed:
    """Detects the red disc, and something in the corner; every detection is confirmed."""

    @property
    def detector(self):
        return self

    def detect(self, image, camera):
        u, v = red_at(image)
        boxes = np.float32([[u - 9, v - 9, u + 9, v + 9], [0, 0, 8, 8]])
        return Faces(boxes, np.float32([0.9, 0.6]))

    def measured(self, image, camera, faces):
        ones = np.ones((len(faces), 2))
        return Detections(np.zeros(len(faces)), faces.scores.astype(float), ones, 0.01 * ones)


def test_a_detection_is_confirmed_at_its_roll_or_at_another_one():
    limits = Limits(0.02, 0.06)
    np.testing.assert_allclose(
        limits.of(np.array([0.3, 0.6, 0.75, 1.0])), [0.02, 0.02, 0.04, 0.06]
    )
    good, uncertain, absent = (0.9, 0.03), (0.9, 0.05), (0.1, 0.01)
    cases = [
        (0.7, good, absent, True),
        (0.7, uncertain, good, True),
        (0.6, uncertain, absent, False),
        (0.62, good, good, False),  # the limit is 0.023
        (0.9, uncertain, absent, True),
        (0.9, absent, absent, False),
        (0.0, good, good, False),  # not detected
    ]
    score, own, other, expected = zip(*cases, strict=True)
    both = np.stack([own, other], 1)
    found = Detections(np.zeros(len(cases)), np.array(score), both[..., 0], both[..., 1])
    assert found.confirmed(limits).tolist() == list(expected)


@pytest.mark.parametrize('scale', [0.4, 1.7])
def test_a_picture_is_pasted_where_it_is_moved_to(scale):
    picture, heads = MarkedHeads().picture(1)
    at = np.array([130.0, 90.0])
    move = Similarity.placing(heads.uv[0], at, scale, angle=1.2)
    image = _pasted(np.zeros((200, 260, 3), np.uint8), picture, move)
    np.testing.assert_allclose(red_at(image), at, atol=1.0)
    assert (image[0, 0] == 0).all()


def test_only_the_pasted_head_counts_as_true_and_only_what_is_away_as_false():
    true = heads_in_backgrounds(SeesRed(), MarkedHeads(), BlackBackgrounds(), 9, seed=1)
    assert 3 <= len(true.score) < 9  # every third picture has no head
    assert true.score == pytest.approx(0.9)
    assert ((true.size_px > 24) & (true.size_px < 300)).all()

    class Scenes(MarkedScenes):
        def camera(self, index):
            return Camera.from_fov(200, 120, 60)

        def picture(self, index):
            picture, heads = super().picture(index)
            picture[:, 100:] = 0  # the second disc would move the mean
            return picture, heads

    false = false_in_scenes(SeesRed(), Scenes(), 2)
    assert false.score == pytest.approx([0.6, 0.6])
