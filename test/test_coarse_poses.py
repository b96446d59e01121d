# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faces that are too small for keypoints."""

import numpy as np
import pytest
from helpers.faces import head_pose

from face_pose_ros import FacePoseEstimator
from face_pose_ros.results import CoarsePoses, Faces
from face_pose_ros.virtual_camera import photo_camera


class TinyFace:
    """A detector that finds one face of some size, with a pose."""

    def __init__(self, side_px, score):
        self.T = head_pose((0.1, -0.05, 6.0), (0.0, 0.5, 0.0))
        self.side_px, self.score = side_px, score

    def detect(self, image, camera):
        box = np.float32([[320, 200, 320 + self.side_px, 200 + self.side_px]])
        coarse = CoarsePoses(self.T[None], 0.01 * np.eye(6)[None])
        return Faces(box, np.float32([self.score]), coarse)


def test_a_face_too_small_for_keypoints_has_the_detectors_pose():
    camera = photo_camera(640, 480)
    image = np.zeros((480, 640, 3), np.uint8)  # no network sees keypoints in it
    estimator = FacePoseEstimator()
    estimator.detector = TinyFace(20, 0.9)
    (face,) = estimator.estimate(image, camera)
    np.testing.assert_array_equal(face.T_cam_head, estimator.detector.T)
    np.testing.assert_array_equal(face.covariance, 0.01 * np.eye(6))
    assert face.score == pytest.approx(0.9)
    assert np.isinf(face.keypoints_sigma_px).all()
    middle = camera.project(face.position).uv
    assert np.linalg.norm(face.keypoints_uv.mean(0) - middle) < 20
    ids = {f.id for i in range(4) for f in estimator.track(image, camera, 0.1 * i)}
    assert ids == {'f00001'}


@pytest.mark.parametrize(
    ('side_px', 'score'),
    [
        (20, 0.79),  # it is not sure
        (120, 0.99),  # it is large enough for keypoints
    ],
)
def test_without_keypoints_a_detection_is_a_face_only_if_it_is_sure_and_small(side_px, score):
    estimator = FacePoseEstimator()
    estimator.detector = TinyFace(side_px, score)
    assert estimator.estimate(np.zeros((480, 640, 3), np.uint8), photo_camera(640, 480)) == []
