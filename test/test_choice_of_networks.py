# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The estimator with each choice of networks: who looks at which head, and what nobody sees."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.faces import head_pose
from helpers.portraits import portrait_view

from face_pose_ros import EstimatorOptions, FacePoseEstimator
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.options import DetectorOptions, KeypointOptions
from face_pose_ros.results import CoarsePoses, Faces
from face_pose_ros.virtual_camera import photo_camera


@pytest.mark.parametrize('networks', ['hourglass', 'auto'])
def test_every_choice_of_networks_finds_the_same_head(networks):
    rgb, camera = portrait_view()
    (mesh,) = FacePoseEstimator(
        options=EstimatorOptions(keypoints=KeypointOptions(network='face_mesh'))
    ).estimate(rgb, camera)
    (other,) = FacePoseEstimator(
        options=EstimatorOptions(keypoints=KeypointOptions(network=networks))
    ).estimate(rgb, camera)
    poses = [f.T_cam_head[None] for f in (mesh, other)]
    assert_poses_close(*poses, max_deg=20, max_mm=100)
    assert other.keypoints_uv.shape == (478, 2)
    off_px = np.linalg.norm(other.keypoints_uv - mesh.keypoints_uv, axis=1)
    assert np.median(off_px) < 0.1 * (mesh.box_xyxy[3] - mesh.box_xyxy[1])
    assert np.linalg.eigvalsh(other.covariance).min() > 0


def test_a_head_seen_from_the_side_is_followed_by_the_hourglass():
    """Face Mesh is asked first for everybody, then for no head that is turned away."""
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator()
    (face,) = estimator.track(rgb, camera, 0.0)
    asked = []
    follow = estimator.keypoints.mesh.follow
    estimator.keypoints.mesh.follow = lambda image, uv, camera: (
        asked.append(len(uv)),
        follow(image, uv, camera),
    )[1]
    assert estimator.track(rgb, camera, 0.03)[0].id == face.id
    (person,) = estimator.tracker._people
    turn = np.eye(4)
    turn[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    person.filter.state = replace(person.filter.state, T_cam_head=face.T_cam_head @ turn)
    estimator.track(rgb, camera, 0.03)
    assert asked == [1, 0]


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
    (face,) = estimator.estimate(rgb, camera)
    assert np.linalg.eigvalsh(face.covariance).min() > 0
    with pytest.raises(ValueError, match='without the single-shot detector'):
        FacePoseEstimator(options=options, networks=load_networks('cpu'))
    with pytest.raises(ValueError, match="'retina' is not one of blazeface, single_shot"):
        DetectorOptions(network='retina')
