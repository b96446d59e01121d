"""Each face is measured by the networks that are good at it, and by no others."""

import pytest
import torch
from helpers.cameras import make_camera
from helpers.scene import isotropic

from face_pose_ros.keypoints.reader import KeypointReader
from face_pose_ros.keypoints.semantic_predictor import FACE_MESH_INDEX
from face_pose_ros.types import Faces, Keypoints

CAMERA = make_camera('plumb_bob_5')
IMAGE = torch.zeros(480, 640, 3, dtype=torch.uint8)
SHARES = torch.tensor([0.0, 0.4, 1.0])


class Predictor:
    """Says where it was asked to look."""

    def __init__(self, points):
        self.points, self.followed = points, None

    def predict(self, image, faces, camera):
        return self.seen(torch.full((len(faces), self.points, 2), 7.0))

    def follow(self, image, uv, camera):
        self.followed = uv
        return self.seen(uv[:, :1].expand(-1, self.points, -1))

    @staticmethod
    def seen(uv):
        return Keypoints(
            uv.double(), isotropic(torch.ones(uv.shape[:2]).double()), torch.ones(len(uv))
        )


def known_faces():
    """Keypoints that tell the faces and the points apart."""
    index = torch.arange(3 * 478, dtype=torch.float64).view(3, 478, 1)
    return torch.cat([index, -index], -1)


def test_auto_asks_each_network_for_its_faces():
    mesh, head = Predictor(478), Predictor(86)
    readings = KeypointReader(mesh, head).follow(IMAGE, known_faces(), SHARES, CAMERA)
    assert torch.equal(mesh.followed, known_faces()[:2])
    assert torch.equal(head.followed, known_faces()[1:][:, FACE_MESH_INDEX])
    assert readings.mesh.presence.tolist() == [1, 1, 0]
    assert readings.head.presence.tolist() == [0, 1, 1]
    assert readings.mesh.cov_uv[2].diagonal(dim1=-2, dim2=-1).isinf().all()
    assert torch.equal(readings.mesh.uv[:2, 0], known_faces()[:2, 0])
    assert torch.equal(readings.head.uv[1:, 0], known_faces()[1:, FACE_MESH_INDEX[0]])


@pytest.mark.parametrize('alone', ['mesh', 'head'])
def test_a_network_alone_measures_every_face(alone):
    predictor = Predictor(478 if alone == 'mesh' else 86)
    both = {'mesh': None, 'head': None} | {alone: predictor}
    reader = KeypointReader(**both)
    readings = reader.follow(IMAGE, known_faces(), SHARES, CAMERA)
    other = 'head' if alone == 'mesh' else 'mesh'
    assert getattr(readings, alone).presence.tolist() == [1, 1, 1]
    assert getattr(readings, other).presence.tolist() == [0, 0, 0]
    new = Faces(torch.zeros(2, 4), torch.ones(2), torch.zeros(2, 6, 2))
    assert getattr(reader.predict(IMAGE, new, CAMERA), alone).presence.tolist() == [1, 1]


def test_a_new_face_is_measured_by_both():
    new = Faces(torch.zeros(2, 4), torch.ones(2), torch.zeros(2, 6, 2))
    readings = KeypointReader(Predictor(478), Predictor(86)).predict(IMAGE, new, CAMERA)
    assert readings.mesh.presence.tolist() == readings.head.presence.tolist() == [1, 1]
