# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Suppression against a plain-Python reference."""

import numpy as np
import pytest

from face_pose_ros import _core
from face_pose_ros.faces.nms import box_overlaps, nms


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


def test_followed_faces_come_first_and_each_face_once():
    corners = [(10, 20), (300, 20), (12, 21), (300, 200), (301, 199), (500, 20)]
    uv = np.array([[(u, v), (u + 50, v + 60), (0, 0)] for u, v in corners], float)
    presence = np.array([0.7, 0.9, 0.8, 0.99, 0.6, 0.2])
    ids = ['f00001', 'f00002', '', '', 'f00004', 'f00005']
    # The third point is not of the face; the last face has too little presence.
    rows = _core.each_once(uv, 2, presence, ids, 0.5, 0.3)
    assert rows == [1, 0, 4]
    assert _core.each_once(uv, 2, presence, [''] * 6, 0.5, 0.3) == [3, 1, 2]
    assert _core.each_once(uv, 2, presence, [''] * 6, 0.5, 1.0) == [3, 1, 2, 0, 4]


def test_different_numbers_of_faces_are_refused():
    with pytest.raises(ValueError, match='numbers of faces or keypoints differ'):
        _core.each_once(np.zeros((2, 3, 2)), 2, np.ones(1), [''], 0.5, 0.3)
