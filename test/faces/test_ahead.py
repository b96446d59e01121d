# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detection between two images: the same answer however long it takes."""

import time

import pytest

from face_pose_ros.faces.ahead import DetectionAhead
from face_pose_ros.results import Faces

FACES = Faces.of_boxes([[0, 0, 1, 1]])


def slow():
    time.sleep(0.05)
    return FACES


def test_the_result_waits_for_the_detection_and_returns_it_once():
    ahead, stream = DetectionAhead(), object()
    assert ahead.result(stream, 0, 1) is None
    ahead.begin(slow, stream, 0.5)
    assert ahead.result(stream, 0.4, 0.6) is FACES
    assert ahead.result(stream, 0.4, 0.6) is None


@pytest.mark.parametrize(('since_s', 'until_s'), [(0.6, 0.7), (0.3, 0.4)])
def test_those_of_long_ago_and_of_the_future_are_not_used(since_s, until_s):
    ahead, stream = DetectionAhead(), object()
    ahead.begin(slow, stream, 0.5)
    assert ahead.result(stream, since_s, until_s) is None


def test_those_of_another_stream_are_not_used():
    ahead = DetectionAhead()
    ahead.begin(slow, object(), 0.5)
    assert ahead.result(object(), 0, 1) is None


def test_the_result_raises_the_error_of_the_detection():
    ahead, stream = DetectionAhead(), object()

    def fail():
        raise RuntimeError('out of memory')

    ahead.begin(fail, stream, 0.5)
    with pytest.raises(RuntimeError, match='out of memory'):
        ahead.result(stream, 0, 1)
    ahead.begin(fail, stream, 0.5)
    ahead.forget()
    assert ahead.result(stream, 0, 1) is None
