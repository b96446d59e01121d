# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CameraInfos of all models, sound and broken: each answered as OpenCV does, or refused."""

import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from benchmarks.fuzz_camera_infos import BAD, Fuzz, run


@pytest.mark.parametrize('seed', [1, 2])
def test_no_calibration_is_answered_wrongly(seed):
    ends = run(1000, seed)
    assert {end: ends[end] for end in BAD} == dict.fromkeys(BAD, 0)
    assert ends['answered'] > 500
    # Every fault occurs.
    assert sum(end.startswith('refused: ') for end in ends) == len(Fuzz(0).faults)
