# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From BlazeFace's output to boxes in pixels of the image."""

import numpy as np
import pytest
from face_pose_lab.blazeface.detector import BlazeFaceDetector, level_sizes, network_input
from face_pose_lab.blazeface.network import blazeface_full_range
from helpers.photographs import PORTRAIT_FACES
from helpers.portraits import portrait_view

from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.options import DetectorOptions

_STRIDE = 4  # px


class Plants:
    """A network that proposes faces in these cells (row, column) of every image."""

    def __init__(self, *faces):
        self.faces = faces  # cell, logit, centre and size in px of the input

    def __call__(self, image):
        grid = image.shape[-2] // _STRIDE, image.shape[-1] // _STRIDE
        logits, regressions = np.full((1, *grid), -9, np.float32), np.zeros((1, *grid, 16))
        for (row, column), logit, numbers in self.faces:
            logits[0, row, column] = logit
            regressions[0, row, column, :4] = numbers
        return logits.reshape(1, -1), regressions.reshape(1, -1, 16).astype(np.float32)


def test_a_proposal_lies_on_its_exact_pixel():
    # 131 x 77 px scaled by 0.4 is one level of 52 x 31 px; cell (1, 5) is around (21.5, 5.5).
    network = Plants(((1, 5), 3.0, (1, 2, 20, 24)))
    faces = BlazeFaceDetector(network, DetectorOptions()).detect(np.zeros((77, 131, 3), np.uint8))
    x, y = (22.5 + 0.5) * 131 / 52 - 0.5, (7.5 + 0.5) * 77 / 31 - 0.5
    half_width, half_height = 10 * 131 / 52, 12 * 77 / 31
    assert faces.boxes_xyxy[0].tolist() == pytest.approx(
        [x - half_width, y - half_height, x + half_width, y + half_height], abs=1e-4
    )
    assert faces.scores.tolist() == pytest.approx([0.9526], abs=1e-4)
    assert faces.coarse is None


def test_proposals_of_one_face_are_their_mean_weighted_by_score():
    far = ((7, 11), 1.0, (0, 0, 6, 6))
    network = Plants(((3, 4), 2.0, (0, 0, 16, 16)), ((3, 5), 0.0, (0, 0, 16, 16)), far)
    image = np.zeros((32, 64, 3), np.uint8)
    options = DetectorOptions(min_face_px=16, score_threshold=0.4)
    faces = BlazeFaceDetector(network, options).detect(image)
    first, second = 1 / (1 + np.exp(-2)), 0.5
    x = (17.5 * first + 21.5 * second) / (first + second)
    assert faces.scores.tolist() == pytest.approx([first, 1 / (1 + np.exp(-1))], abs=1e-6)
    assert faces.boxes_xyxy[0].tolist() == pytest.approx([x - 8, 5.5, x + 8, 21.5], abs=1e-4)


def test_a_part_of_a_face_vanishes_without_moving_the_face():
    network = Plants(((3, 4), 2.0, (0, 0, 30, 30)), ((4, 5), 1.0, (0, 0, 6, 6)))
    options = DetectorOptions(min_face_px=16)
    faces = BlazeFaceDetector(network, options).detect(np.zeros((32, 64, 3), np.uint8))
    assert faces.boxes_xyxy.tolist() == [[2.5, -1.5, 32.5, 28.5]]


def test_levels_cover_every_size():
    assert level_sizes(720, 1280, DetectorOptions()) == [(288, 512), (72, 128)]
    assert level_sizes(64, 100, DetectorOptions()) == [(26, 40)]
    finer = DetectorOptions(min_face_px=20, max_input_px=4096)
    assert level_sizes(720, 1280, finer) == [(576, 1024), (144, 256), (36, 64)]


def test_an_image_is_padded_with_grey_to_multiples_of_32(rng):
    image = rng.integers(0, 256, (33, 70, 3), dtype=np.uint8)
    planes = network_input(image)
    assert planes.shape == (1, 3, 64, 96)
    np.testing.assert_allclose(planes[0, 2, :33, :70], image[..., 2] / 127.5 - 1, atol=1e-6)
    assert not planes[..., 33:, :].any()
    assert not planes[..., 70:].any()


@pytest.mark.parametrize('name', PORTRAIT_FACES)
def test_a_portrait_has_one_face(name):
    image, _ = portrait_view(name)
    network = TorchNetwork(blazeface_full_range(), 'cpu')
    (box,) = BlazeFaceDetector(network, DetectorOptions()).detect(image).boxes_xyxy
    centre, height = PORTRAIT_FACES[name]
    np.testing.assert_allclose(0.5 * (box[:2] + box[2:]), centre, atol=0.2 * height)
    assert box[3] - box[1] == pytest.approx(height, rel=0.4)
    empty = np.full_like(image, 128)
    assert BlazeFaceDetector(network, DetectorOptions()).detect(empty).boxes_xyxy.shape == (0, 4)
