# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From an image through scaling and padding to boxes and poses, by a network that measures."""

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.heads import frontal

from face_pose_ros.faces.head_cells import (
    HEAD_CENTRE,
    NUMBERS,
    SIGMA,
    SIZE_MULTIPLE,
    STRIDES,
    cells_of_poses,
)
from face_pose_ros.faces.head_detector import (
    MIN_IMAGE_PX,
    SMALLEST_FACE_INPUT_PX,
    HeadDetector,
    face_boxes,
    input_size,
    network_input,
)
from face_pose_ros.faces.head_uncertainty import HeadUncertainty, log_apparent_size
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import DetectorOptions
from face_pose_ros.pose.face_model import deformable_face

FACE = deformable_face().xyz_head
UNCERTAINTY = HeadUncertainty(
    np.float64(0), np.log([20.0, 200.0]), np.array([4 * np.eye(6), np.eye(6)])
)
# Width, height, smallest face [px]: scaled by a half and less, unevenly, and padded.
SIZES = [(640, 480, 40), (501, 333, 40), (333, 501, 20), (130, 97, 16), (140, 75, 30)]
# A tilted, a lying, an upside-down and an averted head.
ROTATIONS = [(0.0, 0.0, 0.0), (0.2, -0.7, 0.5), (0, 0, 1.6), (0, 0, 3.1), (0.1, 2.8, 0)]


def make_camera(width, height):
    K = [0.9 * width, 0, 0.47 * width, 0, 0.93 * width, 0.55 * height, 0, 0, 1]
    return Camera.from_K(K, width, height, (-0.12, 0.03, 0.001, -0.002))


def make_pose(rotvec=(0.0, 0.0, 0.0), xyz=(0.07, -0.05, 0.8)):
    return frontal(np.array(xyz), rotvec)[None]


def image_with_spot(T, camera):
    """An image that is bright around the centre of the first head."""
    uv = camera.project(rotations.apply(T, np.array([HEAD_CENTRE]))).uv[0, 0]
    rows, columns = np.mgrid[: camera.height, : camera.width]
    sq = (columns - uv[0]) ** 2 + (rows - uv[1]) ** 2
    spot = 255 * np.exp(-sq / (2 * (0.02 * camera.width) ** 2))
    return np.repeat(spot.round().astype(np.uint8)[..., None], 3, -1)


class Measures:
    """A network that measures the place of the bright spot.

    It knows how the heads lie about it, their sizes in the full image, and their rotations.
    """

    def __init__(self, T, camera, options, scores=(3.0,), grid=0):
        self.truth, _ = cells_of_poses(T, camera)
        height, width = input_size(camera.height, camera.width, options)
        self.scale = np.array([width / camera.width, height / camera.height])
        self.size, self.scores, self.grid = (height, width), scores, grid

    def __call__(self, images):
        padded = (max(side + -side % SIZE_MULTIPLE, STRIDES[-1]) for side in self.size)
        assert images.shape == (1, 3, *padded)
        weight = images[0].astype(float).mean(0)
        height, width = weight.shape
        spot = np.array([weight.sum(0) @ np.arange(width), weight.sum(1) @ np.arange(height)])
        spot /= weight.sum()
        outputs = [np.zeros((1, NUMBERS, height // s, width // s), np.float32) for s in STRIDES]
        for output in outputs:
            output[:, 0] = -9
        stride, output = STRIDES[self.grid], outputs[self.grid]
        for i, score in enumerate(self.scores):
            uv = spot + self.scale * (self.truth.uv[i] - self.truth.uv[0])
            column, row = np.floor((uv + 0.5) / stride).astype(int)
            cell = output[0, :, row, column]
            cell[0] = score
            cell[1:3] = (uv + 0.5) / stride - (column + 0.5, row + 0.5)
            cell[3] = self.truth.log_size[i] + 0.5 * np.log(self.scale).sum() - np.log(stride)
            cell[4:10] = self.truth.columns[i]
        return outputs


def detector_of(T, camera, options=None, uncertainty=UNCERTAINTY, **network):
    options = options or DetectorOptions()
    return HeadDetector(Measures(T, camera, options, **network), FACE, uncertainty, options)


@pytest.mark.parametrize(('width', 'height', 'min_face_px'), SIZES)
@pytest.mark.parametrize('rotvec', ROTATIONS)
def test_poses_are_those_of_the_full_image(width, height, min_face_px, rotvec):
    camera, T = make_camera(width, height), make_pose(rotvec)
    detector = detector_of(T, camera, DetectorOptions(min_face_px=min_face_px))
    faces = detector.detect(image_with_spot(T, camera), camera)
    assert len(faces) == 1
    # Half a pixel of the input would be 3 to 10 mm; an uneven scale costs a thousandth.
    assert_poses_close(faces.coarse.T_cam_head, T, max_deg=0.3, max_mm=1.5)
    box = face_boxes(faces.coarse.T_cam_head, FACE, camera)
    np.testing.assert_allclose(faces.boxes_xyxy, box, atol=1e-3)
    assert faces.scores.tolist() == pytest.approx([0.9526], abs=1e-3)


@pytest.mark.parametrize('grid', range(len(STRIDES)))
def test_every_grid_may_find_the_head(grid):
    camera, T = make_camera(640, 480), make_pose((0.2, -0.7, 0.5))
    faces = detector_of(T, camera, grid=grid).detect(image_with_spot(T, camera), camera)
    assert_poses_close(faces.coarse.T_cam_head, T, max_deg=0.3, max_mm=1.5)


@pytest.mark.parametrize('roll_deg', [0.0, 35.0, 90.0, 180.0])
def test_boxes_are_squares_around_the_face(roll_deg):
    camera, T = make_camera(640, 480), make_pose((0.0, 0.0, np.deg2rad(roll_deg)))
    ((x1, y1, x2, y2),) = (
        detector_of(T, camera).detect(image_with_spot(T, camera), camera).boxes_xyxy
    )
    assert x2 - x1 == pytest.approx(y2 - y1, rel=1e-5)
    uv = camera.project(rotations.apply(T, FACE)).uv[0]
    side, middle = np.ptp(uv, axis=0).max(), 0.5 * (uv.min(0) + uv.max(0))
    assert x2 - x1 == pytest.approx(side, rel=0.01)
    assert [0.5 * (x1 + x2), 0.5 * (y1 + y2)] == pytest.approx(middle.tolist(), abs=0.5)


def test_the_box_of_an_upright_face_is_as_high_as_the_face():
    camera, T = make_camera(640, 480), make_pose()
    ((_, y1, _, y2),) = face_boxes(T, FACE, camera)
    hairline, chin = camera.project(rotations.apply(T, FACE[[10, 152]])).uv[0, :, 1]
    assert y1 == pytest.approx(hairline, abs=0.05 * (y2 - y1))
    assert y2 == pytest.approx(chin, abs=0.05 * (y2 - y1))


def test_a_face_of_which_the_lens_sees_nothing_has_no_box():
    T = np.concatenate([make_pose(), make_pose(xyz=(0.0, 0.0, -1.0))])
    with np.errstate(all='raise'):
        boxes = face_boxes(T, FACE, make_camera(640, 480))
    assert np.isfinite(boxes).all(-1).tolist() == [True, False]
    assert face_boxes(T[:0], FACE, make_camera(640, 480)).shape == (0, 4)


def test_heads_come_best_first_and_each_once():
    camera = make_camera(640, 480)
    # Two people side by side; the proposal beside the first one means the same head.
    beside = (0.09, -0.05, 0.8)
    T = np.concatenate(
        [make_pose(), make_pose((0, 0.5, 0), beside), make_pose(xyz=(-0.2, 0, 0.9))]
    )
    options = DetectorOptions(min_face_px=16, max_input_px=640)
    detector = detector_of(T, camera, options, scores=(1.0, 0.5, 2.0))
    faces = detector.detect(image_with_spot(T, camera), camera)
    assert_poses_close(faces.coarse.T_cam_head, T[[2, 0]], max_deg=0.3, max_mm=1.5)
    assert faces.scores.tolist() == pytest.approx([0.881, 0.731], abs=1e-3)
    assert faces.coarse.covariance.shape == (2, 6, 6)


def score_of(logit):
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize(('below', 'count'), [(-0.1, 1), (0.1, 0)])
def test_proposals_have_at_least_the_threshold(below, count):
    camera, T = make_camera(640, 480), make_pose()
    options = DetectorOptions(score_threshold=float(score_of(2 + below)))
    detector = detector_of(T, camera, options, scores=(2.0,))
    faces = detector.detect(image_with_spot(T, camera), camera)
    assert faces.scores.tolist() == pytest.approx(count * [score_of(2)])


@pytest.mark.parametrize(('offset', 'count'), [(0.0, 1), (-1.0, 0), (-0.5, 1)])
def test_the_score_offset_is_added_to_the_logits(offset, count):
    camera, T = make_camera(640, 480), make_pose()
    uncertainty = UNCERTAINTY._replace(score_offset=np.float64(offset))
    options = DetectorOptions(score_threshold=float(score_of(2.25)))
    faces = detector_of(T, camera, options, uncertainty).detect(image_with_spot(T, camera), camera)
    assert faces.scores.tolist() == pytest.approx(count * [score_of(3 + offset)])


@pytest.mark.parametrize(('part', 'count'), [(1.1, 1), (1.4, 0)])
def test_a_face_below_the_smallest_size_is_not_reported(part, count):
    camera, T = make_camera(640, 480), make_pose()
    ((x1, _, x2, _),) = face_boxes(T, FACE, camera)
    options = DetectorOptions(min_face_px=float(part * (x2 - x1)), max_input_px=640)
    faces = detector_of(T, camera, options).detect(image_with_spot(T, camera), camera)
    assert len(faces) == count


@pytest.mark.parametrize('min_face_px', [16, 64])
def test_the_covariance_follows_the_size_in_the_full_image(min_face_px):
    camera, T = make_camera(640, 480), make_pose()
    part = (log_apparent_size(T, camera)[0] - np.log(20)) / np.log(10)
    expected = SIGMA * np.sqrt((1 - part) * 4 + part * 1)
    options = DetectorOptions(min_face_px=min_face_px, max_input_px=640)
    faces = detector_of(T, camera, options).detect(image_with_spot(T, camera), camera)
    (covariance,) = faces.coarse.covariance
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.sqrt(covariance.diagonal()[3:]).tolist() == pytest.approx(3 * [expected], rel=0.01)


def test_without_a_head_there_are_no_faces():
    camera, T = make_camera(501, 333), make_pose()
    faces = detector_of(T, camera, scores=(-9.0,)).detect(image_with_spot(T, camera), camera)
    assert faces.boxes_xyxy.shape == (0, 4)
    assert faces.coarse.T_cam_head.shape == (0, 4, 4)
    assert faces.coarse.covariance.shape == (0, 6, 6)


@pytest.mark.parametrize('side', [64, 96])
def test_heads_in_every_cell_are_a_few_faces(side):
    camera = make_camera(side, side)

    def network(images):
        assert images.shape[2:] == (side, side)
        outputs = [np.zeros((1, NUMBERS, side // s, side // s), np.float32) for s in STRIDES]
        for output in outputs:
            output[:, 4:10] = np.array([0.0, 0, -1, 1, 0, 0])[:, None, None]
            output[:, 0], output[:, 3] = 4, 1
        return outputs

    options = DetectorOptions(min_face_px=16)
    detector = HeadDetector(network, FACE, UNCERTAINTY, options)
    faces = detector.detect(np.zeros((side, side, 3), np.uint8), camera)
    assert 1 < len(faces) < (side // 8) ** 2


def test_images_are_scaled_down_to_the_smallest_face_and_never_up():
    assert input_size(720, 1280, DetectorOptions()) == (288, 512)
    assert input_size(480, 640, DetectorOptions()) == (192, 256)
    assert input_size(2160, 3840, DetectorOptions()) == (288, 512)
    finer = DetectorOptions(min_face_px=20, max_input_px=4096)
    assert input_size(720, 1280, finer) == (576, 1024)
    finest = DetectorOptions(min_face_px=SMALLEST_FACE_INPUT_PX, max_input_px=1000)
    assert input_size(120, 160, finest) == (120, 160)
    assert input_size(1000, 2000, finest) == (500, 1000)
    assert input_size(64, 8000, DetectorOptions(max_input_px=64)) == (1, 64)


def test_an_image_is_padded_below_and_on_the_right_to_multiples_of_32(rng):
    image = rng.integers(0, 256, (81, 169, 3), dtype=np.uint8)
    planes = network_input(image)
    assert planes.shape == (1, 3, 96, 192)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(
        planes[0, :, :81, :169], image.transpose(2, 0, 1) / 255, rtol=0, atol=1e-7
    )
    assert planes[..., 81:, :].max() == planes[..., 169:].max() == 0
    np.testing.assert_array_equal(network_input(image[::-1])[0, :, :81], planes[0, :, 80::-1])


@pytest.mark.parametrize(('size', 'padded'), [((5, 70), (64, 96)), ((65, 1), (96, 64))])
def test_a_small_image_is_padded_to_the_largest_stride(size, padded):
    planes = network_input(np.full((*size, 3), 255, np.uint8))
    assert planes.shape == (1, 3, *padded)
    assert planes.sum() == 3 * size[0] * size[1]


@pytest.mark.parametrize(
    ('shape', 'dtype', 'message'),
    [
        ((150, 200, 3), float, r'uint8; got shape \(150, 200, 3\), float64'),
        ((3, 150, 200), np.uint8, r'\(H, W, 3\).*got shape \(3, 150, 200\)'),
        ((150, 200), np.uint8, r'\(H, W, 3\).*got shape \(150, 200\)'),  # grey
        ((150, 200, 4), np.uint8, r'\(H, W, 3\).*got shape \(150, 200, 4\)'),  # RGBA
        ((MIN_IMAGE_PX - 1, 200, 3), np.uint8, 'H and W at least 64'),
        ((150, 201, 3), np.uint8, 'the image is 201 x 150 but .* for 200 x 150'),
        ((200, 150, 3), np.uint8, 'the image is 150 x 200 but .* for 200 x 150'),
    ],
)
def test_other_images_are_refused(shape, dtype, message):
    detector = HeadDetector(lambda _: pytest.fail('was run'), FACE, UNCERTAINTY)
    with pytest.raises(ValueError, match=message):
        detector.detect(np.zeros(shape, dtype), make_camera(200, 150))
