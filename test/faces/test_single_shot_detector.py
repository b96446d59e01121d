# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The single-shot detector: from images through scaling and padding to poses and boxes."""

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.heads import frontal

from face_pose_ros.faces.detector import SMALLEST_FACE_INPUT_PX
from face_pose_ros.faces.head_uncertainty import HeadUncertainty
from face_pose_ros.faces.region_pose import FRONTAL_COLUMNS, regions_of_poses
from face_pose_ros.faces.single_shot import HEAD_CENTRE, STRIDES, level_sizes, middles_of_poses
from face_pose_ros.faces.single_shot_detector import SingleShotDetector, input_size
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import crops_around_boxes
from face_pose_ros.options import DetectorOptions
from face_pose_ros.pose.face_model import deformable_face

FACE = deformable_face().xyz_head
UNCERTAINTY = HeadUncertainty(
    np.float64(0), np.log([20.0, 200.0]), np.array([0.04 * np.eye(6), 0.01 * np.eye(6)])
)
# An image's size and the least face [px]: scaled to a half and less, unevenly, with padding.
SIZES = [(640, 480, 40), (501, 333, 40), (333, 501, 20), (130, 97, 16)]


def make_camera(width, height):
    K = [0.9 * width, 0, 0.47 * width, 0, 0.93 * width, 0.55 * height, 0, 0, 1]
    return Camera.from_K(K, width, height, (-0.12, 0.03, 0.001, -0.002))


def make_pose(rotvec=(0.0, 0.0, 0.0), xyz=(0.07, -0.05, 0.8)):
    return frontal(np.array(xyz), rotvec)[None]


def picture_with_spot(T, camera):
    """An image that is bright around the middle of the head: where it is can be measured."""
    uv = camera.project(rotations.apply(T, np.array([HEAD_CENTRE]))).uv[0, 0]
    rows, columns = np.mgrid[: camera.height, : camera.width]
    sq = (columns - uv[0]) ** 2 + (rows - uv[1]) ** 2
    spot = 255 * np.exp(-sq / (2 * (0.02 * camera.width) ** 2))
    return np.repeat(spot.round().astype(np.uint8)[..., None], 3, -1)


class Spotter:
    """Measures where the bright spot is; knows the size in the full image, and the rotation.

    It answers for one level of an image only.
    """

    def __init__(self, T, camera, options, level=0):
        self.truth = middles_of_poses(T, camera)
        sizes = level_sizes(*input_size(camera.height, camera.width, options))
        self.zooms = [(h / camera.height * w / camera.width) ** 0.5 for h, w in sizes]
        self.level, self.calls = level, 0

    def __call__(self, pictures):
        level = self.calls % len(self.zooms)
        self.calls += 1
        weight = pictures[0].astype(float).mean(0)
        height, width = weight.shape
        uv = np.array([weight.sum(0) @ np.arange(width), weight.sum(1) @ np.arange(height)])
        uv /= weight.sum()
        outputs = [np.zeros((1, 10, height // s, width // s), np.float32) for s in STRIDES]
        for output in outputs:
            output[:, 0] = -9
        # The cell that the spot lies in, of the grid of stride 8.
        column, row = np.floor((uv + 0.5) / 8).astype(int)
        cell = outputs[0][0, :, row, column]
        cell[0] = 3 if level == self.level else -9
        cell[1:3] = (uv - (np.array([column, row]) + 0.5) * 8 + 0.5) / 8
        cell[3] = self.truth.log_size[0] + np.log(self.zooms[level] / 8)
        cell[4:] = self.truth.columns[0]
        return outputs


class Agrees:
    """A second stage that finds the head where it was proposed, and knows its rotation."""

    def __init__(self, T):
        R = regions_of_poses(T).R_cam_crop[0].T @ T[0, :3, :3]
        columns = R[:, :2].T.ravel() - FRONTAL_COLUMNS
        self.numbers = np.concatenate([np.zeros(4), columns, np.zeros(6)])

    def on_crops(self, image, crops, camera, shrink=1):
        return (np.tile(self.numbers, (len(crops.focal_px), 1)),)


def detector_of(T, camera, options):
    return SingleShotDetector(Spotter(T, camera, options), Agrees(T), FACE, UNCERTAINTY, options)


@pytest.mark.parametrize(('width', 'height', 'min_face_px'), SIZES)
@pytest.mark.parametrize('rotvec', [(0.0, 0.0, 0.0), (0.2, -0.7, 0.5)])
def test_poses_are_those_of_the_full_image(width, height, min_face_px, rotvec):
    camera, T = make_camera(width, height), make_pose(rotvec)
    detector = detector_of(T, camera, DetectorOptions(min_face_px=min_face_px))
    heads = detector.detect(picture_with_spot(T, camera), camera)
    assert len(heads) == 1
    # Half a pixel of the input would be 3 to 10 mm; an uneven scale costs a thousandth.
    assert_poses_close(heads.coarse.T_cam_head, T, max_deg=0.3, max_mm=1.0)
    uv = camera.project(rotations.apply(heads.coarse.T_cam_head, FACE)).uv
    middle, box = 0.5 * (uv.min(1) + uv.max(1)), heads.boxes_xyxy
    np.testing.assert_allclose(0.5 * (box[:, :2] + box[:, 2:]), middle, atol=1e-3)
    assert heads.scores.tolist() == pytest.approx([0.9526], abs=1e-3)


@pytest.mark.parametrize('level', [0, 1])
def test_large_heads_may_be_found_in_a_smaller_image(level):
    camera, T = make_camera(501, 333), make_pose((0.2, -0.7, 0.5), (0.03, 0.02, 0.4))
    options = DetectorOptions(min_face_px=16)
    spotter = Spotter(T, camera, options, level)
    detector = SingleShotDetector(spotter, Agrees(T), FACE, UNCERTAINTY, options)
    heads = detector.detect(picture_with_spot(T, camera), camera)
    assert spotter.calls == len(spotter.zooms) == 2
    assert len(heads) == 1
    assert_poses_close(heads.coarse.T_cam_head, T, max_deg=0.3, max_mm=1.0)


def test_boxes_are_square_and_as_high_as_the_face():
    camera, T = make_camera(640, 480), make_pose()
    detector = detector_of(T, camera, DetectorOptions())
    (x1, y1, x2, y2) = detector.detect(picture_with_spot(T, camera), camera).boxes_xyxy[0]
    uv = camera.project(rotations.apply(T, FACE[[10, 152]])).uv[0]  # hairline, chin
    assert x2 - x1 == pytest.approx(y2 - y1, rel=1e-5)
    assert y1 == pytest.approx(uv[0, 1], abs=0.05 * (y2 - y1))
    assert y2 == pytest.approx(uv[1, 1], abs=0.05 * (y2 - y1))


@pytest.mark.parametrize('roll_deg', [0.0, 60.0, -140.0])
def test_crops_stand_upright_by_the_anchors(roll_deg):
    camera, T = make_camera(640, 480), make_pose((0.0, 0.0, np.deg2rad(roll_deg)))
    detector = detector_of(T, camera, DetectorOptions())
    faces = detector.detect(picture_with_spot(T, camera), camera)
    # Right eye, left eye, nose tip, mouth, right ear, left ear.
    uv = camera.project(rotations.apply(T, FACE[[33, 263, 1, 13, 234, 454]])).uv[0]
    width = np.linalg.norm(uv[5] - uv[4])
    off_px = np.linalg.norm(faces.anchors_uv[0] - uv, axis=-1)
    assert off_px.max() < 0.15 * width  # corners for middles
    crops = crops_around_boxes(faces.boxes_xyxy, faces.anchors_uv, camera, 256, 1.5)
    up = crops.R_cam_crop[0].T @ T[0, :3, 2]
    assert np.rad2deg(np.arctan2(up[0], -up[1])) == pytest.approx(0, abs=3)


def test_images_are_not_enlarged():
    options = DetectorOptions(min_face_px=SMALLEST_FACE_INPUT_PX, max_input_px=1000)
    assert input_size(120, 160, options) == (120, 160)
    assert input_size(1000, 2000, options) == (500, 1000)


def test_the_covariance_follows_the_size_in_the_image():
    """Whatever the size of the picture in which the head was proposed."""
    camera, T = make_camera(640, 480), make_pose()
    image = picture_with_spot(T, camera)
    size = np.exp(middles_of_poses(T, camera).log_size[0])
    part = np.log(size / 20) / np.log(10)
    # The second stage states 0.1 of each error, the table says how many times that it is.
    expected = 0.1 * np.sqrt((1 - part) * 0.04 + part * 0.01)
    for min_face_px in (16, 64):
        options = DetectorOptions(min_face_px=min_face_px, max_input_px=640)
        detector = detector_of(T, camera, options)
        covariance = detector.detect(image, camera).coarse.covariance[0]
        assert np.linalg.eigvalsh(covariance).min() > 0
        sigma = np.sqrt(covariance[3:, 3:].diagonal().mean())
        assert sigma == pytest.approx(expected, rel=0.01)


def test_a_face_below_the_smallest_size_is_not_reported():
    camera, T = make_camera(640, 480), make_pose()
    image = picture_with_spot(T, camera)
    (x1, _, x2, _) = detector_of(T, camera, DetectorOptions()).detect(image, camera).boxes_xyxy[0]
    for least, found in ((1.1 * (x2 - x1), 1), (1.4 * (x2 - x1), 0)):
        options = DetectorOptions(min_face_px=float(least), max_input_px=640)
        assert len(detector_of(T, camera, options).detect(image, camera)) == found


def test_the_score_offset_is_added_to_the_logits():
    camera, T = make_camera(640, 480), make_pose()
    options = DetectorOptions(score_threshold=0.9)
    image, spotter = picture_with_spot(T, camera), Spotter(T, camera, options)
    for offset, found in ((0.0, 1), (-1.0, 0)):  # logit 3 is 0.95, logit 2 is 0.88
        uncertainty = UNCERTAINTY._replace(score_offset=np.float64(offset))
        detector = SingleShotDetector(spotter, Agrees(T), FACE, uncertainty, options)
        assert len(detector.detect(image, camera)) == found


def test_a_deferred_detection_does_not_read_the_callers_image():
    camera, T = make_camera(640, 480), make_pose()
    image, detector = picture_with_spot(T, camera), detector_of(T, camera, DetectorOptions())
    task = detector.deferred(image, camera)
    image[:] = 0
    assert len(task()) == 1


@pytest.mark.parametrize(
    ('shape', 'dtype', 'message'),
    [
        ((150, 200), np.uint8, r'H and W at least 64'),
        ((150, 200, 3), np.float32, r'uint8; got shape .*float32'),
        ((150, 201, 3), np.uint8, r'the image is 201 x 150 but .* for 200 x 150'),
    ],
)
def test_wrong_images_are_refused(shape, dtype, message):
    fails = lambda _: pytest.fail('was run')  # noqa: E731
    detector = SingleShotDetector(fails, fails, FACE, UNCERTAINTY)
    with pytest.raises(ValueError, match=message):
        detector.detect(np.zeros(shape, dtype), make_camera(200, 150))
