# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The estimator with each detector, and what no keypoint network sees."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.faces import head_pose
from helpers.portraits import portrait_view

from face_pose_ros import EstimatorOptions, FacePoseEstimator
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.options import DetectorOptions
from face_pose_ros.results import CoarsePoses, Faces
from face_pose_ros.virtual_camera import photo_camera


class TinyFace:
    """A detector that sees one face of some size and poses it."""

    def __init__(self, side_px):
        self.T = head_pose((0.1, -0.05, 6.0), (0.0, 0.5, 0.0))
        self.side_px = side_px

    def deferred(self, image, camera):
        box = [[320, 200, 320 + self.side_px, 200 + self.side_px]]
        coarse = CoarsePoses(self.T[None], 0.01 * np.eye(6)[None])
        faces = replace(Faces.of_boxes(box), scores=np.array([0.7]), coarse=coarse)
        return lambda: faces


def test_a_face_too_small_for_keypoints_has_the_detectors_pose():
    camera = photo_camera(640, 480)
    image = np.zeros((480, 640, 3), np.uint8)  # no network sees keypoints in it
    estimator = FacePoseEstimator()
    estimator.detector = TinyFace(20)
    (face,) = estimator.estimate(image, camera)
    np.testing.assert_array_equal(face.T_cam_head, estimator.detector.T)
    np.testing.assert_array_equal(face.covariance, 0.01 * np.eye(6))
    assert face.score == pytest.approx(0.7)
    assert np.isinf(face.keypoints_sigma_px).all()
    middle = camera.project(face.position).uv
    assert np.linalg.norm(face.keypoints_uv.mean(0) - middle) < 20
    ids = {f.id for i in range(4) for f in estimator.track(image, camera, 0.1 * i)}
    assert ids == {'f00001'}
    estimator.detector = TinyFace(120)  # keypoints would be seen
    assert estimator.estimate(image, camera) == []


def test_the_single_shot_detector_is_an_option():
    options = EstimatorOptions(detector=DetectorOptions(network='single_shot'))
    estimator = FacePoseEstimator(options=options)
    rgb, camera = portrait_view()
    face, *others = estimator.estimate(rgb, camera)
    assert face.score > 0.99
    assert all(other.score < 0.9 for other in others)  # it proposes more than faces
    assert np.linalg.eigvalsh(face.covariance).min() > 0
    with pytest.raises(ValueError, match='without the single-shot detector'):
        FacePoseEstimator(options=options, networks=load_networks('cpu'))
    with pytest.raises(ValueError, match="'retina' is not one of blazeface, single_shot"):
        DetectorOptions(network='retina')
