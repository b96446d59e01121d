# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads in photographs that keypoints confirm, and photographs without heads."""

from pathlib import Path

import numpy as np
import pytest
from face_pose_lab.evaluation.camera_rotation import random_views
from helpers.asserts import rotation_error_deg
from helpers.photographs import PORTRAIT_FACES, fill, load_sample, paste_portrait
from helpers.portraits import portrait_view

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.faces.head_detector import HeadDetector
from face_pose_ros.faces.head_uncertainty import packaged_uncertainty
from face_pose_ros.geometry import rotations
from face_pose_ros.options import DetectorOptions
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.samples import load_image, load_portraits
from face_pose_ros.virtual_camera import photo_camera, render_view

GROUP_PHOTOGRAPH = Path(__file__).resolve().parents[3] / 'shared' / 'eval' / 'group' / 'six.jpg'
# Of scikit-image, without the coins, which show heads.
FACE_FREE = [
    'brick.png',
    'chelsea.png',
    'clock_motion.png',
    'coffee.png',
    'grass.png',
    'gravel.png',
    'hubble_deep_field.jpg',
    'moon.png',
    'motorcycle_left.png',
    'rocket.jpg',
]
# Centres of faces (x, y) in 1280 x 720, none on a grid of the network.
PLACES = [(640, 360), (201, 187), (1083, 203), (333, 521), (911, 499), (515, 263)]


@pytest.fixture(scope='module')
def networks():
    return load_networks('cpu')


@pytest.fixture(scope='module')
def find(networks):
    """The faces that the estimator reports."""
    estimator = FacePoseEstimator(networks=networks)
    return lambda image: estimator.estimate(image, camera_of(image))


def best(detector, image):
    """The first detection."""
    return detector.detect(image, camera_of(image))[np.array([0])]


def detector_of(networks, **options):
    xyz_face, uncertainty = deformable_face().xyz_head, packaged_uncertainty()
    return HeadDetector(networks.detector, xyz_face, uncertainty, DetectorOptions(**options))


def camera_of(image):
    return photo_camera(image.shape[1], image.shape[0])


def is_found(faces, centre_xy, face_height):
    """Exactly one face in the image, at that place."""
    if len(faces) != 1:
        return False
    x1, y1, x2, y2 = faces[0].box_xyxy.tolist()
    offset = np.hypot((x1 + x2) / 2 - centre_xy[0], (y1 + y2) / 2 - centre_xy[1])
    return offset < 0.2 * face_height and 0.7 * face_height < y2 - y1 < 1.4 * face_height


def turned(image, xy, quarters):
    """An image turned counter-clockwise by so many quarters, and where its point (x, y) lies."""
    x, y = xy
    for _ in range(quarters):
        x, y = y, image.shape[1] - 1 - x
        image = np.rot90(image)
    return np.ascontiguousarray(image), (x, y)


def test_is_found_can_deny(find):
    faces = find(portrait_view('astronaut')[0])
    assert is_found(faces, (225, 124), 108)
    assert not is_found(faces, (225, 150), 108)
    assert not is_found(faces, (225, 124), 200)


def test_a_turned_point_keeps_its_pixel(rng):
    image = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for quarters in range(4):
        other, (x, y) = turned(image, (2, 1), quarters)
        np.testing.assert_array_equal(other[y, x], image[1, 2])


def test_all_six_faces_of_a_group_are_found(find):
    if not GROUP_PHOTOGRAPH.is_file():
        pytest.skip(f'the group photograph is not at {GROUP_PHOTOGRAPH}')
    faces = find(load_image(GROUP_PHOTOGRAPH))
    assert len(faces) == 6
    heights = [face.box_xyxy[3] - face.box_xyxy[1] for face in faces]
    assert min(heights) > 90
    assert max(heights) < 150


@pytest.mark.parametrize('name', PORTRAIT_FACES)
@pytest.mark.parametrize('face_height', [80, 160, 320])
def test_faces_from_near_to_far_are_found(find, name, face_height):
    for background in ('coffee.png', 'chelsea.png', 'rocket.jpg'):
        photograph = fill(load_sample(background), 1280, 720)
        for place in PLACES:
            faces = find(paste_portrait(photograph, name, face_height, place))
            assert is_found(faces, place, face_height), (background, place, faces)


@pytest.mark.parametrize('name', PORTRAIT_FACES)
def test_of_the_smallest_faces_at_most_two_of_twelve_are_missed(find, name):
    found = [
        is_found(find(paste_portrait(photograph, name, 40, place)), place, 40)
        for photograph in (fill(load_sample(n), 1280, 720) for n in ('coffee.png', 'rocket.jpg'))
        for place in PLACES
    ]
    assert sum(found) >= len(found) - 2


@pytest.mark.parametrize('quarters', [0, 1, 2, 3])
@pytest.mark.parametrize('name', PORTRAIT_FACES)
@pytest.mark.parametrize('face_height', [60, 240])
def test_faces_at_every_roll_are_found_with_the_pose_turned(find, name, face_height, quarters):
    photograph = fill(load_sample('coffee.png'), 1280, 720)
    turn = rotations.exp([0, 0, -0.5 * np.pi * quarters])
    (portrait,) = find(portrait_view(name)[0])
    found = 0
    for place in PLACES:
        scene, at = turned(paste_portrait(photograph, name, face_height, place), place, quarters)
        faces = [face for face in find(scene) if is_found([face], at, face_height)]
        found += len(faces)
        for face in faces:  # another direction of view, and fewer pixels
            expected = (turn @ portrait.T_cam_head[:3, :3])[None]
            assert rotation_error_deg(face.T_cam_head[None, :3, :3], expected) < 40
    assert found >= len(PLACES) - 1


@pytest.mark.parametrize('name', PORTRAIT_FACES)
def test_a_coarse_pose_is_about_that_of_the_portrait(networks, name):
    T = best(detector_of(networks), portrait_view(name)[0]).coarse.T_cam_head[0]
    (x, y), height = PORTRAIT_FACES[name]
    camera = portrait_view(name)[1]
    # Both people face the camera within 40 deg and are upright within 30.
    assert -T[2, 0] > np.cos(np.deg2rad(40))
    assert -T[1, 2] > np.cos(np.deg2rad(30))
    u, v = camera.project(T[:3, 3]).uv
    assert abs(u - x) < 0.2 * height
    assert -0.35 * height < v - y < 0.05 * height
    assert T[2, 3] == pytest.approx(camera.K[1, 1] * 0.18 / height, rel=0.25)


@pytest.mark.parametrize('name', PORTRAIT_FACES)
@pytest.mark.parametrize('face_height', [400, 680, 800])
def test_a_face_that_fills_the_image_is_found(find, name, face_height):
    grey = np.full((720, 1280, 3), 128, np.uint8)
    faces = find(paste_portrait(grey, name, face_height, (630, 370)))
    assert is_found(faces, (630, 370), face_height)


def test_two_faces_of_different_size_are_found(find):
    scene = fill(load_sample('coffee.png'), 1280, 720)
    scene = paste_portrait(scene, 'grace_hopper', 60, (1101, 151))
    scene = paste_portrait(scene, 'astronaut', 240, (301, 351))
    faces = find(scene)
    assert len(faces) == 2
    middles = [(face.box_xyxy[:2] + face.box_xyxy[2:]) / 2 for face in faces]
    for centre in ((1101, 151), (301, 351)):
        assert np.linalg.norm(np.array(middles) - centre, axis=1).min() < 40


@pytest.mark.parametrize('name', FACE_FREE)
def test_photographs_without_a_face_have_none(find, name):
    photograph = load_sample(name)
    assert len(find(photograph)) == 0
    assert len(find(fill(photograph, 1280, 720))) == 0


@pytest.mark.parametrize('size', [(64, 64), (65, 131), (333, 200), (720, 1280), (1080, 1921)])
@pytest.mark.parametrize('value', [0, 128, 255])
def test_an_image_of_one_colour_has_no_face(find, size, value):
    assert find(np.full((*size, 3), value, np.uint8)) == []


def test_the_covariance_of_a_far_face_is_the_larger_one(networks):
    detector = detector_of(networks, min_face_px=16, max_input_px=1280)
    photograph = fill(load_sample('coffee.png'), 1280, 720)
    traces = []
    for face_height in (20, 120):
        scene = paste_portrait(photograph, 'astronaut', face_height, (640, 360))
        faces = best(detector, scene)
        middle = 0.5 * (faces.boxes_xyxy[0, :2] + faces.boxes_xyxy[0, 2:])
        assert np.linalg.norm(middle - (640, 360)) < 0.3 * face_height
        traces.append(np.trace(faces.coarse.covariance[0, 3:, 3:]))
    assert traces[0] > 1.5 * traces[1]


@pytest.mark.parametrize(('lens', 'number'), [('plumb_bob', 19), ('equidistant', 45)])
def test_a_space_suit_is_no_second_face(lens, number):
    """Its breast has a detection, and keypoints that are nearly certain enough."""
    photo = load_portraits()['astronaut']
    photo_cam = photo_camera(photo.shape[1], photo.shape[0])
    estimator = FacePoseEstimator('cpu')
    (face,) = estimator.estimate(photo, photo_cam)
    xyz = rotations.apply(face.T_cam_head[None], estimator.model.xyz_head)[0]
    views = random_views(xyz, lens, number + 1, np.random.default_rng(0))
    view = list(views)[number]
    assert len(estimator.estimate(render_view(photo, photo_cam, view), view.camera)) == 1
