# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A tracker that is written down and restored goes on as if nothing had been."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from tracking.people import camera, new_tracker, pose

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.results import DepthEvidence
from face_pose_ros.tracking.snapshot import restore, snapshot

LENSES = [
    Camera.from_K([400, 0, 310.5, 0, 420, 235.2, 0, 0, 1], 640, 480),
    Camera.from_K(
        [300, 0, 320, 0, 301, 241, 0, 0, 1], 640, 480, [0.1, 0.02, -0.003, 4e-4], 'equidistant'
    ),
    Camera.from_K(
        [380.1, 0, 300, 0, 381, 250, 0, 0, 1],
        800,
        600,
        [0.3, 0.1, 0.001, -0.002, 0.01, 0.4, 0.05, 0.02],
        'rational_polynomial',
    ),
]


def frames(rng):
    """Two people, one unseen for a while, a jump, a lost one, depth, and changes of the lens."""
    sensor = camera(rng)
    stamps = np.r_[0:1:0.1, 1.4, 1.5, 3.2, 3.3, 3.4]
    for i, stamp_s in enumerate(stamps):
        near, far = pose(0.4 * stamp_s, z=1.2), pose(-0.8, z=2.0, turn=(0, 0.3 * stamp_s, 0))
        if i in (6, 7):
            near[0, 3] += 0.2
        seen = [sensor.see(near, [1.0, 0.5, 0])]
        if i in (2, 8):
            seen[0] = replace(seen[0], depth=DepthEvidence(60, 50, 45, 1.03, 0.8))
        if i not in (4, 5):
            seen.append(sensor.see(far, [-0.8, 0.2, 0.1]))
        yield float(stamp_s), LENSES[(i // 5) % 3], seen


def front():
    tracker = new_tracker()
    tracker.id_prefix = 'front_'
    return tracker


def shown(tracker, stream):
    found = []
    for stamp_s, lens, faces in stream:
        tracker.set_camera(lens)
        found.append(tracker.update(deepcopy(faces), stamp_s))
    return found


def test_interrupted_at_any_image_the_answers_are_the_same(rng):
    stream = list(frames(rng))
    expected = shown(front(), stream)
    assert {face.id for faces in expected for face in faces} > {'front_f00001', 'front_f00002'}
    for i in range(len(stream)):
        before, after = front(), new_tracker()
        shown(before, stream[:i])
        before.images_since_detection = 3
        written = json.dumps(snapshot(before))
        restore(after, json.loads(written))
        assert json.dumps(snapshot(after)) == written
        for found, wanted in zip(shown(after, stream[i:]), expected[i:], strict=True):
            assert [face.id for face in found] == [face.id for face in wanted]
            for face, other in zip(found, wanted, strict=True):
                for name, value in vars(other).items():
                    if isinstance(value, np.ndarray):
                        np.testing.assert_allclose(
                            getattr(face, name), value, rtol=1e-12, atol=1e-15, err_msg=name
                        )


@pytest.mark.parametrize('change', [{'version': 1}, {'people': [{}]}, {'camera': {'K': 1}}])
def test_what_is_no_snapshot_is_refused_and_changes_nothing(rng, change):
    tracker = new_tracker()
    shown(tracker, list(frames(rng))[:2])
    before = snapshot(tracker)
    with pytest.raises(ValueError, match='snapshot'):
        restore(tracker, before | change)
    assert snapshot(tracker) == before
