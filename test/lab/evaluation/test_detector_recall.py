# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Criterion for found faces, and position of the labelled face in changed photographs."""

import cv2
import numpy as np
import pytest
from face_pose_lab.evaluation.aflw2000_samples import Sample
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.detector_recall import (
    DETECTORS,
    View,
    filling,
    find,
    is_on,
    median_ms,
    read_views,
    rows_of,
    scaled,
    turned,
)
from helpers.photographs import PORTRAIT_FACES
from helpers.portraits import portrait_view

from face_pose_ros.options import DetectorOptions
from face_pose_ros.results import CoarsePoses, Faces

FACE = np.array([40.0, 50, 60, 70])


@pytest.mark.parametrize(
    ('box', 'found'),
    [
        ((40, 50, 60, 70), True),
        ((36, 40, 66, 70), True),  # up to the hairline: 0.44
        ((30, 30, 70, 70), False),  # twice as large: 0.25
        ((51, 50, 71, 70), False),  # 0.29, and the middle is outside
        ((140, 50, 160, 70), False),
    ],
)
def test_a_box_on_the_face_is_about_as_large_and_holds_its_middle(box, found):
    assert is_on(np.array([box], np.float32), FACE).tolist() == [found]


SIZE = (100, 120)  # height, width of the photographs [px]


def view(image=None):
    return View(np.zeros((*SIZE, 3), np.uint8) if image is None else image, FACE)


def returns(boxes, scores):
    """A detector that finds these faces in every photograph; the poses of face i are i + 1."""

    def detect(image_rgb, camera):
        assert image_rgb.shape == (*SIZE, 3)
        assert (camera.height, camera.width) == SIZE
        count = len(scores)
        numbers = np.arange(1.0, count + 1)[:, None, None]
        coarse = CoarsePoses(numbers * np.eye(4), numbers * np.eye(6))
        return Faces(np.reshape(np.float32(boxes), (-1, 4)), np.float32(scores), coarse)

    return detect


def test_the_best_box_on_the_face_counts_and_the_others_are_counted():
    detect = returns([[0.0, 0, 20, 20], [40, 50, 60, 70], [41, 50, 61, 70]], [0.9, 0.4, 0.6])
    found = find(detect, [view(), view()], 2)
    assert found.found.tolist() == [True, True]
    np.testing.assert_array_equal(found.R_cam_head, np.tile(3 * np.eye(3), (2, 1, 1)))
    np.testing.assert_array_equal(found.covariance, np.tile(3 * np.eye(3), (2, 1, 1)))
    assert found.others == 2
    assert median_ms(detect, [view().image]) > 0


def test_a_face_that_is_not_found_has_no_pose():
    for detect, others in ((returns([], []), 0), (returns([[0, 0, 20, 20]], [0.8]), 1)):
        found = find(detect, [view()], 1)
        assert found.found.tolist() == [False]
        assert np.isnan(found.R_cam_head).all()
        assert found.others == others


def marked(box, reach=1):
    """A photograph in which the corners of a box are marked, in red and green."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for channel, (x, y) in enumerate((box[:2], box[2:])):
        rows, columns = (slice(int(at) - reach, int(at) + reach + 1) for at in (y, x))
        image[rows, columns, channel] = 255
    return View(image, np.array(box))


def centroid(channel):
    weight = channel.astype(float)
    return (
        np.array(
            [
                weight.sum(0) @ np.arange(weight.shape[1]),
                weight.sum(1) @ np.arange(weight.shape[0]),
            ]
        )
        / weight.sum()
    )


BOX = (31.0, 22.0, 49.0, 46.0)


@pytest.mark.parametrize('quarters', [0, 1, 2, 3])
def test_a_turned_photograph_has_the_box_on_its_face(quarters):
    image, box = turned(marked(BOX), quarters)
    assert image.shape[:2] == (SIZE if quarters % 2 == 0 else SIZE[::-1])
    corners = np.array([centroid(image[..., channel]) for channel in (0, 1)])
    np.testing.assert_allclose(np.concatenate([corners.min(0), corners.max(0)]), box)


@pytest.mark.parametrize('face_px', [14.0, 20.0, 29.76, 80.0])
def test_a_scaled_photograph_has_the_box_on_its_face(face_px):
    image, box = scaled(marked(BOX), face_px)
    assert image.shape == (450, 450, 3)
    assert box[3] - box[1] == pytest.approx(face_px / 1.24)
    np.testing.assert_allclose(0.5 * (box[:2] + box[2:]), 225)
    corners = [centroid(marks(image, channel)) for channel in (0, 1)]
    np.testing.assert_allclose(np.concatenate(corners), box, atol=0.15)


def test_a_face_that_fills_the_image_has_its_box_there():
    image, box = filling(marked(BOX, reach=0))
    assert image.shape == (450, 450, 3)
    height = (box[3] - box[1]) * 1.24
    assert height == pytest.approx(0.9 * 450)
    # The box ends at the chin: above it there is room for the forehead.
    assert 450 - box[3] == pytest.approx(box[3] - height, abs=1.5)
    corners = [centroid(marks(image, channel)) for channel in (0, 1)]
    np.testing.assert_allclose(np.concatenate(corners), box, atol=0.15)


def marks(image, channel):
    """The brightness of a mark over the black of the photograph; its grey frame has none."""
    grey = (image.min(-1) > 0) & (np.ptp(image.astype(int), axis=-1) == 0)
    return np.where(grey, 0, image[..., channel].astype(int) - image[..., 2])


def test_every_row_changes_a_portrait_so_that_its_face_is_still_there():
    image, _ = portrait_view()
    (x, y), height = PORTRAIT_FACES['grace_hopper']
    half = 0.5 * height / 1.24
    portrait = View(image, np.array([x - half, y + 20 - half, x + half, y + 20 + half]))
    for name, (change, min_face_px) in rows_of().items():
        changed = change(portrait)
        assert changed.image.dtype == np.uint8
        middle = 0.5 * (changed.box_xyxy[:2] + changed.box_xyxy[2:])
        assert (middle > 0).all(), name
        assert (middle < changed.image.shape[1::-1]).all(), name
        assert 16 <= min_face_px <= DetectorOptions().min_face_px


@pytest.mark.parametrize('name', DETECTORS)
def test_each_detector_runs(name):
    image, camera = portrait_view()
    faces = DETECTORS[name](DetectorOptions())(image, camera)
    (x, y), height = PORTRAIT_FACES['grace_hopper']
    half = 0.5 * height / 1.24
    assert is_on(
        faces.boxes_xyxy, np.array([x - half, y + 20 - half, x + half, y + 20 + half])
    ).any()
    assert (faces.coarse is None) == (name != 'head_detector')


def test_photographs_are_read_with_their_labels_and_a_missing_one_is_named(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.full((*SIZE, 3), (10, 20, 30), np.uint8))
    sample = Sample('a', path, np.array([0.0, 40.0, 0.0]), FACE)
    ((image, box),) = read_views([sample])
    assert image[0, 0].tolist() == [30, 20, 10]
    assert box is FACE
    path.unlink()
    with pytest.raises(DataError, match=r'a\.png'):
        list(read_views([sample]))
