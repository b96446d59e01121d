# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People over time: ids that survive crossings, occlusions, gaps and steps back in time."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from tracking.people import (
    UNKNOWN,
    camera,
    ids_seen,
    known_faces,
    new_tracker,
    pose,
    shape_of,
    watch,
)

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import TrackingOptions
from face_pose_ros.results import Shape
from face_pose_ros.tracking.tracker import Tracker


def ids(faces):
    return [f.id for f in faces]


def test_what_is_done_to_a_face_changes_nothing_of_the_next(rng):
    """Arrays are the caller's own: a head in millimetres is still the same head's next time."""
    stamps = np.arange(0, 1, 0.1)
    seen = [camera(rng).see(pose(0.1 * t, turn=(0, t, 0))) for t in stamps]
    for options in (TrackingOptions(), TrackingOptions(filter_poses=False, remember_shape=False)):
        kept, spoilt = new_tracker(options), new_tracker(options)
        for stamp_s, face in zip(stamps, seen, strict=True):
            (expected,) = kept.update([deepcopy(face)], stamp_s)
            (found,) = spoilt.update([deepcopy(face)], stamp_s)
            assert found.id == expected.id == 'f00001'
            for name, value in vars(expected).items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
                    getattr(found, name)[...] *= 1000


def test_faces_are_numbered_as_their_ids_say(sensor):
    tracker = new_tracker()
    tracker.id_prefix = 'front_'
    for number in (1, 2):
        (face,) = tracker.update([sensor.see(pose(0))], 10.0 * number)
        assert (face.id, face.number) == (f'front_f0000{number}', number)


@pytest.mark.parametrize('fps', [10, 30])
def test_two_people_who_cross_keep_their_ids(rng, fps):
    """One hides the other for half a second, and one measurement in five fails."""
    swapped, lost = 0, 0
    for _ in range(150 // fps):
        sensor = camera(rng)
        speed, depth = rng.uniform(0.4, 1.0), rng.uniform(0.35, 0.8)
        people = {
            'near': (lambda t, v=speed: pose(v * (t - 1.5), z=1.2), [1.0, 0.5, 0]),
            'far': (
                lambda t, v=speed, d=depth: pose(-v * (t - 1.5), z=1.2 + d, turn=(0, 0.3, 0)),
                [-0.8, 0.2, 0],
            ),
        }

        def seen(name, stamp_s):
            hidden = name == 'far' and abs(stamp_s - 1.5) < 0.25
            return not hidden and rng.random() > 0.2

        had = ids_seen(watch(new_tracker(), sensor, np.arange(0, 3, 1 / fps), people, seen))
        swapped += bool(had['near'] & had['far'])
        lost += len(had['near'] | had['far']) > 2
    assert swapped == 0
    assert lost == 0


def test_two_people_side_by_side_walk_together(sensor):
    """What is where one was a moment ago is the other one: only the prediction tells."""
    people = {
        name: (lambda t, x0=x0: pose(x0 + 2.0 * t, z=2.5), [0, 0, 0])
        for name, x0 in {'left': -1.0, 'right': -0.75}.items()
    }
    # First slowly enough to be understood.
    had = ids_seen(watch(new_tracker(), sensor, np.r_[0:0.3:0.033, 0.4:1:0.125], people))
    assert all(len(h) == 1 for h in had.values())
    assert had['left'] != had['right']


def test_an_occlusion_is_survived_in_motion_and_nothing_is_reported(sensor, tracker):
    people = {'a': (lambda t: pose(-0.5 + 0.6 * t), [0, 0, 0])}

    def hidden(stamp_s):
        return 1.0 < stamp_s < 1.7

    run = list(watch(tracker, sensor, np.arange(0, 3, 0.1), people, lambda _, s: not hidden(s)))
    assert all(found == {} for stamp_s, found in run if hidden(stamp_s))
    assert ids_seen(run) == {'a': {'f00001'}}


def test_a_lost_face_is_forgotten_in_time_and_its_id_never_used_again(sensor, tracker):
    face = sensor.see(pose(0))
    assert ids(tracker.update([face], 0.0)) == ['f00001']
    assert tracker.update([], 0.9) == []
    assert tracker.ids == ['f00001']
    tracker.advance(1.0)
    assert tracker.ids == ['f00001']
    tracker.advance(1.01)
    assert tracker.ids == []
    assert ids(tracker.update([face], 1.02)) == ['f00002']


def test_a_stated_time_of_loss_is_kept(sensor):
    tracker = new_tracker(TrackingOptions(lost_after_s=5.0))
    face = sensor.see(pose(0))
    tracker.update([face], 0.0)
    assert ids(tracker.update([face], 4.9)) == ['f00001']
    tracker.advance(9.91)
    assert tracker.ids == []


def test_time_going_back_deletes_all_tracks_but_continues_the_ids(sensor, tracker):
    face = sensor.see(pose(0))
    tracker.update([face], 5.0)
    assert ids(tracker.update([face], 4.0)) == ['f00002']
    assert ids(tracker.update([face], 4.1)) == ['f00002']


def test_the_same_stamp_again_is_the_same_people(sensor, tracker):
    faces = [sensor.see(pose(0)), sensor.see(pose(0.5))]
    first = tracker.update(faces, 1.0)
    again = tracker.update(faces[::-1], 1.0)
    assert ids(again) == ids(first)[::-1]
    assert all(np.isfinite(face.covariance).all() for face in again)


def test_two_faces_in_one_place_are_two(sensor, tracker):
    faces = [sensor.see(pose(0)), sensor.see(pose(0.01))]
    assert sorted(ids(tracker.update(faces, 0.0))) == ['f00001', 'f00002']
    assert sorted(ids(tracker.update(faces, 0.1))) == ['f00001', 'f00002']


def test_a_jump_is_a_new_face(sensor, tracker):
    tracker.update([sensor.see(pose(0))], 0.0)
    assert ids(tracker.update([sensor.see(pose(0.6))], 0.03)) == ['f00002']


def test_known_faces_are_those_seen_a_moment_ago(sensor, tracker):
    assert known_faces(tracker, 0.1)[0] == []
    tracker.update([sensor.see(pose(0)), sensor.see(pose(0.5))], 0.0)
    tracker.update([sensor.see(pose(0.02))], 0.08)
    tracker.advance(0.16)
    ids_known, uv = known_faces(tracker, 0.1)
    assert ids_known == ['f00001']
    # It has moved by 0.02 in 0.08 s, and is expected to have gone on.
    np.testing.assert_allclose(uv[0], np.tile([0.04, 0.1], (478, 1)))
    assert known_faces(tracker, 0.2)[0] == ['f00001', 'f00002']


def test_another_size_of_the_same_person_is_not_another_person(sensor, tracker):
    """A large person fitted with the prior again: 0.4 m nearer, but the same person."""
    large = [2.5, 0, 0]
    sharp = camera(sensor.rng, information=(20.0, 1.0, 30.0))
    list(watch(tracker, sharp, np.arange(0, 3, 0.03), {'a': (lambda t: pose(0.2, z=3), large)}))
    blind = camera(sensor.rng, information=(0.2, 0.2, 0.2))
    face = blind.see(pose(0.2, z=3), large, shape_error=[-2.5, 0, 0])
    assert face.T_cam_head[2, 3] < 2.65
    (again,) = tracker.update([face], 3.0)
    assert again.id == 'f00001'
    assert again.T_cam_head[2, 3] == pytest.approx(3, abs=0.1)


def test_faces_keep_everything_else(sensor, tracker):
    face = sensor.see(pose(0))
    (tracked,) = tracker.update([face], 0.0)
    for name in ('keypoints_uv', 'keypoints_sigma_px', 'box_xyxy', 'score'):
        assert getattr(tracked, name) is getattr(face, name)


def test_a_rigid_face_without_shape_is_tracked(sensor):
    nothing = Shape(np.zeros(0), np.zeros((0, 0)))
    tracker = Tracker(TrackingOptions(), nothing, [])
    seen = sensor.see(pose(0))
    face = replace(
        seen,
        shape=np.zeros(0),
        shape_covariance=np.zeros((0, 0)),
        fit=seen.fit._replace(pose_of_shape=np.zeros((6, 0))),
    )
    for stamp_s in (0.0, 0.1):
        assert ids(tracker.update([face], stamp_s)) == ['f00001']
    assert shape_of(tracker, 'f00001').mean.shape == (0,)


def test_an_id_of_a_lost_face_is_not_used_again(sensor, tracker):
    tracker.update([sensor.see(pose(0))], 0.0)
    assert shape_of(tracker, 'f00001').covariance[2, 2] < 1
    for found, expected in zip(shape_of(tracker, ''), UNKNOWN, strict=True):
        np.testing.assert_array_equal(found, expected)
    tracker.advance(2.0)
    with pytest.raises(KeyError, match='f00001'):
        shape_of(tracker, 'f00001')


SMALL = Camera.from_K([300, 0, 160, 0, 300, 120, 0, 0, 1], 320, 240)
LARGE = Camera.from_K([600, 0, 320.5, 0, 600, 240.5, 0, 0, 1], 640, 480)


def seen_at(sensor, uv):
    return replace(sensor.see(pose(0)), keypoints_uv=np.tile(uv, (478, 1)))


def test_keypoints_and_their_speed_are_carried_into_the_next_cameras_picture(sensor, tracker):
    assert not tracker.set_camera(SMALL)
    tracker.update([seen_at(sensor, (100.0, 80.0))], 0.0)
    tracker.update([seen_at(sensor, (102.0, 80.0))], 0.1)
    assert not tracker.set_camera(replace(SMALL, K=SMALL.K.copy()))
    assert tracker.set_camera(LARGE)
    tracker.advance(0.15)
    # Twice as large, from middle to middle, and so is a pixel in a twentieth of a second.
    expected = 2 * (np.array([103.0, 80.0]) - (160, 120)) + (320.5, 240.5)
    np.testing.assert_allclose(known_faces(tracker, 1.0)[1][0, 0], expected, atol=1e-6)


def test_a_face_outside_the_next_cameras_image_has_no_crop(sensor, tracker):
    wide = Camera.from_K(
        [100, 0, 320, 0, 100, 240, 0, 0, 1], 640, 480, (0, 0, 0, 0), 'equidistant'
    )
    tracker.set_camera(wide)
    tracker.update([seen_at(sensor, (500.0, 240.0))], 0.0)  # 103 deg beside the axis
    assert tracker.set_camera(LARGE)
    assert known_faces(tracker, 1.0)[0] == []
    assert tracker.ids == ['f00001']
    # Found again by the detector, it is the same person, and it has not raced there.
    (face,) = tracker.update([seen_at(sensor, (300.0, 200.0))], 0.1)
    assert face.id == 'f00001'
    tracker.advance(0.2)
    assert known_faces(tracker, 1.0)[1][0, 0].tolist() == [300, 200]
