# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Suppression against a plain-Python reference, and merging."""

import numpy as np
import pytest

from face_pose_ros.faces.nms import box_overlaps, merge_proposals, nms
from face_pose_ros.results import Faces


def iou_by_hand(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)


def nms_by_hand(boxes, scores, max_iou):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou_by_hand(boxes[i], boxes[k]) <= max_iou for k in kept):
            kept.append(i)
    return kept


def random_boxes(count, rng):
    centre, size = rng.uniform(0, 90, (count, 2)), rng.uniform(5, 45, (count, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


def faces(boxes, scores):
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    scores = np.asarray(scores, dtype=np.float32).reshape(-1)
    anchors_uv = boxes[:, None, :2] + np.arange(12, dtype=np.float32).reshape(6, 2)
    return Faces(boxes, scores, anchors_uv)


@pytest.mark.parametrize('count', [0, 1, 2, 7, 60])
@pytest.mark.parametrize('max_iou', [0.05, 0.3, 0.8])
def test_nms_keeps_what_the_greedy_algorithm_keeps(count, max_iou, rng):
    for _ in range(10):
        boxes = random_boxes(count, rng)
        scores = rng.uniform(size=count)
        kept = nms(boxes, scores, max_iou)
        assert kept.tolist() == nms_by_hand(boxes.tolist(), scores.tolist(), max_iou)


def test_a_box_suppressed_by_a_dropped_box_only_is_kept():
    # b overlaps a and c; a and c don't meet. a drops b, so nothing drops c.
    boxes = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    scores = np.array([0.9, 0.8, 0.7])
    assert nms(boxes, scores, max_iou=0.3).tolist() == [0, 2]


def test_overlaps_of_known_boxes():
    iou, contained = box_overlaps(np.array([[0.0, 0, 10, 4], [5, 1, 9, 3], [20, 0, 20, 5]]))
    assert iou[0, 1] == pytest.approx(8 / 40)
    assert contained[0, 1] == 1.0  # the second box lies inside the first
    assert iou[0, 2] == contained[0, 2] == 0.0
    assert contained[2, 2] == 0.0  # no area: no overlap, and no division by zero


def test_merging_takes_the_mean_weighted_by_score_and_the_best_score():
    merged = merge_proposals(
        faces([[12.0, 1, 22, 11], [10, 0, 20, 10], [100, 50, 130, 90]], [0.6, 0.9, 0.7]), 0.3, 0.7
    )
    assert merged.scores.tolist() == pytest.approx([0.9, 0.7])
    assert merged.boxes_xyxy[0].tolist() == pytest.approx([10.8, 0.4, 20.8, 10.4])
    assert merged.boxes_xyxy[1].tolist() == [100, 50, 130, 90]
    assert merged.anchors_uv[0, 3].tolist() == pytest.approx([10.8 + 6, 0.4 + 7])


def test_a_part_of_a_face_vanishes_without_moving_the_face():
    merged = merge_proposals(faces([[0.0, 0, 100, 100], [40, 40, 70, 70]], [0.9, 0.8]), 0.3, 0.7)
    assert merged.boxes_xyxy.tolist() == [[0, 0, 100, 100]]


def test_merging_does_not_depend_on_the_order(rng):
    boxes = random_boxes(40, rng)
    scores = rng.uniform(size=40)
    order = rng.permutation(40)
    one = merge_proposals(faces(boxes, scores), 0.3, 0.7)
    other = merge_proposals(faces(boxes[order], scores[order]), 0.3, 0.7)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, rtol=1e-5)
    assert 1 < len(one) < 40


def test_nothing_merges_into_nothing():
    merged = merge_proposals(faces([], []), 0.3, 0.7)
    assert len(merged) == 0
    assert merged.boxes_xyxy.shape == (0, 4)
    assert merged.anchors_uv.shape == (0, 6, 2)
