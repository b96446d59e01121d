"""Ids: globally optimal, kept through crossings of boxes, never used twice."""

import numpy as np
import pytest

from face_pose_ros.estimator import FacePose
from face_pose_ros.tracking.tracker import Tracker, TrackerOptions


def face(x, y=100.0, size=50.0):
    return FacePose(
        T_cam_head=np.eye(4),
        covariance=np.eye(6),
        keypoints_uv=np.full((478, 2), [x, y]),
        keypoints_sigma_px=np.ones(478),
        box_xyxy=np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2]),
        score=1.0,
        shape=np.zeros(0),
        id='',
    )


def ids(faces):
    return [f.id for f in faces]


@pytest.fixture
def tracker():
    return Tracker(TrackerOptions())


def test_order_of_detection_does_not_matter(tracker):
    assert ids(tracker.update([face(100), face(300)], 0.0)) == ['f00001', 'f00002']
    assert ids(tracker.update([face(305), face(104)], 0.1)) == ['f00002', 'f00001']


def test_assignment_is_globally_optimal(tracker):
    tracker.update([face(100), face(140)], 0.0)
    # Greedy nearest-first would give 135 to the second track and leave the first one far behind.
    assert ids(tracker.update([face(135), face(180)], 0.1)) == ['f00001', 'f00002']


def test_a_jump_is_a_new_face(tracker):
    tracker.update([face(100)], 0.0)
    assert ids(tracker.update([face(500)], 0.1)) == ['f00002']


def test_a_face_of_another_size_is_a_new_face(tracker):
    tracker.update([face(100, size=40)], 0.0)
    assert ids(tracker.update([face(100, size=160)], 0.1)) == ['f00002']


def test_a_short_absence_is_forgiven_and_a_long_one_not(tracker):
    tracker.update([face(100)], 0.0)
    tracker.update([], 0.9)
    assert tracker.ids == ['f00001']
    assert ids(tracker.update([face(100)], 1.0)) == ['f00001']
    tracker.update([], 2.1)
    assert tracker.ids == []
    assert ids(tracker.update([face(100)], 2.2)) == ['f00002']


def test_time_going_back_forgets_everybody_but_not_the_ids(tracker):
    tracker.update([face(100)], 5.0)
    assert ids(tracker.update([face(100)], 4.0)) == ['f00002']


def test_keypoints_are_those_of_the_last_sight_if_it_is_recent(tracker):
    assert tracker.recent_keypoints_uv(0.1).shape == (0, 478, 2)
    tracker.update([face(100), face(300)], 0.0)
    tracker.update([face(110)], 0.08)
    tracker.advance(0.16)
    assert tracker.recent_keypoints_uv(0.1)[:, 0].tolist() == [[110, 100]]
    assert len(tracker.recent_keypoints_uv(0.2)) == 2


@pytest.mark.parametrize('name', ['max_jump', 'lost_after_s'])
def test_bad_options_are_named(name):
    with pytest.raises(ValueError, match=f'{name} must be positive'):
        TrackerOptions(**{name: 0})
