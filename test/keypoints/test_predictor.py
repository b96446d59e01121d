"""Looks at faces: averaged, mirrored, and how uncertain they are said to be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cameras import make_camera
from helpers.portraits import portrait_view

from face_pose_ros.geometry import so3
from face_pose_ros.keypoints.crop import crops_around_boxes
from face_pose_ros.keypoints.face_mesh import mirror_partners
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.keypoints.uncertainty import apparent_turn, keypoint_uncertainty
from face_pose_ros.networks.face_mesh import FaceMeshPoints, face_mesh_v2
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.types import Faces

BOX = torch.tensor([[172.0, 131.0, 355.0, 334.0]])
FACE = Faces(BOX, torch.ones(1), torch.full((1, 6, 2), torch.nan))


class Told:
    """A network that sees in crop i what it is told to."""

    def __init__(self, uv, presence):
        self.uv, self.presence = uv, presence

    def __call__(self, crops):
        count = len(crops)
        return FaceMeshPoints(self.uv[:count], self.uv[:count, :, 0], self.presence[:count])


def test_mirror_partners_change_sides():
    partners = mirror_partners()
    assert torch.equal(partners[partners], torch.arange(478))
    # Corners of eyes and mouth, cheeks; the tip of the nose stays.
    assert partners[[33, 61, 234, 4]].tolist() == [263, 291, 454, 4]
    # Iris: centre, the side towards the picture's right, above.
    assert partners[[468, 469, 470]].tolist() == [473, 476, 475]


def test_the_mirror_shows_the_same_face():
    """Every point, irises included, is where its partner is in a mirrored picture."""
    photo, camera = portrait_view()
    predictor = KeypointPredictor(face_mesh_v2(), looks=2)
    look = predictor.predict(torch.from_numpy(photo), FACE, camera)
    flipped = torch.from_numpy(np.ascontiguousarray(photo[:, ::-1]))
    box = BOX * torch.tensor([-1.0, 1, -1, 1]) + torch.tensor([511.0, 0, 511, 0])
    other = predictor.predict(flipped, replace(FACE, boxes_xyxy=box[:, [2, 1, 0, 3]]), camera)
    back = other.uv[:, mirror_partners()]
    back[..., 0] = 511 - back[..., 0]
    off_px = (back - look.uv)[0].norm(dim=-1)
    assert off_px.median() < 2
    assert off_px[468:].max() < 3
    assert off_px.max() < 8


def test_the_average_of_an_easy_face_is_about_the_look():
    photo, camera = portrait_view()
    image = torch.from_numpy(photo)
    predictor = KeypointPredictor(face_mesh_v2(), looks=2)
    look = predictor.predict(image, FACE, camera)
    average, spread = predictor.average(image, look, camera, 8)
    assert (average.uv - look.uv).norm(dim=-1).mean() < 1.5
    assert 0 < spread.item() < 4
    assert average.presence.item() > 0.9


def test_what_looks_disagree_on_is_the_spread(generator):
    camera = make_camera()
    uv = torch.rand(4, 478, 2, generator=generator) * 200
    presence = torch.tensor([0.9, 0.1, 0.8, 0.7])
    predictor = KeypointPredictor(Told(uv, presence), looks=1)
    image = torch.zeros(camera.height, camera.width, 3, dtype=torch.uint8)
    box = torch.tensor([[400.0, 300.0, 500.0, 400.0]])
    look = predictor.predict(image, replace(FACE, boxes_xyxy=box), camera)
    average, spread = predictor.average(image, look, camera, 4)
    assert spread.item() > 100
    # Of 0.9 in the first look and 0.9, 0.1, 0.8, 0.7 in the others.
    assert average.presence.item() == pytest.approx(0.9)
    scale = average.cov_uv / look.cov_uv
    assert (scale[0, :, 0, 0] > 10).all()


def test_one_look_alone_is_not_believed():
    photo, camera = portrait_view()
    uv = torch.full((8, 478, 2), 100.0)
    uv[..., 1] += torch.arange(478) / 5
    predictor = KeypointPredictor(Told(uv, torch.tensor([0.9] + 7 * [0.2])), looks=1)
    image = torch.from_numpy(photo)
    look = predictor.predict(image, FACE, camera)
    predictor.network.presence = torch.full((8,), 0.2)
    assert predictor.average(image, look, camera, 4)[0].presence.item() == pytest.approx(0.2)


@pytest.mark.parametrize('jitters', [1, 4])
def test_an_estimate_uses_the_average(jitters):
    photo, camera = portrait_view()
    image = torch.from_numpy(photo)
    one = KeypointPredictor(face_mesh_v2(), looks=2)
    several = KeypointPredictor(one.network, looks=2, jitters=jitters)
    look = one.predict(image, FACE, camera)
    average, _ = one.average(image, look, camera, jitters)
    assert torch.equal(several.predict(image, FACE, camera).uv, average.uv)
    followed = several.follow(image, look.uv, camera)
    assert (followed.uv - average.uv).norm(dim=-1).mean() < 1.0


def test_a_covariance_is_that_of_the_crop_in_pixels_of_the_image():
    camera = make_camera()
    predictor = KeypointPredictor(face_mesh_v2(), looks=1)
    image = torch.zeros(camera.height, camera.width, 3, dtype=torch.uint8)
    box = torch.tensor([[400.0, 300.0, 500.0, 400.0]])
    anchors = torch.tensor([[[500.0, 320], [500, 380], [460, 350], [420, 350], [0, 0], [0, 0]]])
    faces = Faces(box, torch.ones(1), anchors)  # lies on its side
    crops = crops_around_boxes(box, anchors, camera, 256, 1.5)
    keypoints = predictor.predict(image, faces, camera)
    turned = crops.jacobian(camera)[0]
    assert abs(turned[0, 0]) < 0.1 * abs(turned[0, 1])
    cov = torch.linalg.solve(turned, torch.linalg.solve(turned, keypoints.cov_uv[0]).mT)
    of_front = keypoint_uncertainty().cov_crop
    growth = cov[0, 0, 0] / of_front[0, 0, 0]
    assert growth >= 1
    torch.testing.assert_close(cov, growth * of_front, rtol=1e-5, atol=1e-5)


def test_the_uncertainty_is_symmetric_and_definite():
    cov = keypoint_uncertainty().cov_crop
    assert torch.linalg.eigvalsh(cov).min() > 0.1
    flip = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    partners = mirror_partners()[:468]
    torch.testing.assert_close(cov[:468], flip * cov[partners], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('yaw_deg', [0, 20, 45, 70])
def test_the_apparent_turn_is_the_sine_of_yaw(yaw_deg):
    xyz = deformable_face().xyz_head
    R = torch.tensor([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]).double()
    turn = so3.exp(torch.tensor([0.0, np.deg2rad(yaw_deg), 0.0]).double())
    uv = 1000 * (xyz @ (turn @ R).T)[None, :, :2]
    assert apparent_turn(uv).item() == pytest.approx(np.sin(np.deg2rad(yaw_deg)), abs=0.1)
    assert apparent_turn(-uv).item() == pytest.approx(apparent_turn(uv).item())


def test_uncertainty_grows_with_the_turn_and_with_the_spread():
    uncertainty = keypoint_uncertainty()
    cov = uncertainty.of_average(torch.tensor([0.0, 0.5, 5.0]).double())
    assert (cov[1:, :, 0, 0] > 1.5 * cov[:-1, :, 0, 0]).all()
    ahead, aside = torch.zeros(2, 478, 2).double()
    aside[4, 0], aside[152, 1] = 40, 100  # tip of the nose, chin
    ahead[152, 1] = 100
    factor = uncertainty.factor_of_look(torch.stack([ahead, aside]))
    assert factor[1] > 1.5 * factor[0]
