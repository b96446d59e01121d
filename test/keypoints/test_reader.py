# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Each face is measured by the networks that are good at it, and by no others."""

import numpy as np
import pytest
from helpers.cameras import make_camera

from face_pose_ros.keypoints.reader import KeypointReader
from face_pose_ros.keypoints.semantic_predictor import FACE_MESH_INDEX
from face_pose_ros.results import Faces, Keypoints

CAMERA = make_camera('plumb_bob_5')
IMAGE = np.zeros((480, 640, 3), np.uint8)
SHARES = np.array([0.0, 0.4, 1.0])
NEW = Faces.of_boxes([[0, 0, 9, 9], [20, 20, 40, 40]])


class Predictor:
    """Finds every keypoint of a face at the first one that it is given."""

    def __init__(self, points):
        self.points, self.followed = points, None

    def predict(self, image, faces, camera):
        return self.found(np.full((len(faces), self.points, 2), 7.0))

    def follow(self, image, uv, camera):
        self.followed = uv
        return self.found(np.repeat(uv[:, :1], self.points, axis=1))

    @staticmethod
    def found(uv):
        return Keypoints(uv, np.tile(np.eye(2), (*uv.shape[:2], 1, 1)), np.ones(len(uv)))


def known_faces():
    """Keypoints that tell the faces and the points apart."""
    index = np.arange(3.0 * 478).reshape(3, 478, 1)
    return np.concatenate([index, -index], -1)


def test_auto_gives_each_network_its_faces():
    mesh, head = Predictor(478), Predictor(86)
    readings = KeypointReader(mesh, head).follow(IMAGE, known_faces(), SHARES, CAMERA)
    np.testing.assert_array_equal(mesh.followed, known_faces()[:2])
    np.testing.assert_array_equal(head.followed, known_faces()[1:][:, FACE_MESH_INDEX])
    assert readings.mesh.presence.tolist() == [1, 1, 0]
    assert readings.head.presence.tolist() == [0, 1, 1]
    assert np.isinf(readings.mesh.sigma_px[2]).all()
    np.testing.assert_array_equal(readings.mesh.uv[:2, 0], known_faces()[:2, 0])
    np.testing.assert_array_equal(readings.head.uv[1:, 0], known_faces()[1:, FACE_MESH_INDEX[0]])


@pytest.mark.parametrize('alone', ['mesh', 'head'])
def test_a_network_alone_measures_every_face(alone):
    predictor = Predictor(478 if alone == 'mesh' else 86)
    reader = KeypointReader(**({'mesh': None, 'head': None} | {alone: predictor}))
    readings = reader.follow(IMAGE, known_faces(), SHARES, CAMERA)
    other = 'head' if alone == 'mesh' else 'mesh'
    assert getattr(readings, alone).presence.tolist() == [1, 1, 1]
    assert getattr(readings, other).presence.tolist() == [0, 0, 0]
    assert getattr(reader.predict(IMAGE, NEW, CAMERA), alone).presence.tolist() == [1, 1]


def test_a_new_face_is_measured_by_both():
    readings = KeypointReader(Predictor(478), Predictor(86)).predict(IMAGE, NEW, CAMERA)
    assert readings.mesh.presence.tolist() == readings.head.presence.tolist() == [1, 1]
