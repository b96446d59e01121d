# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CameraInfos of all models, sound and broken: projected as by OpenCV, or refused."""

import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from benchmarks.fuzz_camera_infos import BAD, Fuzz, run


@pytest.mark.parametrize('seed', [1, 2])
def test_every_accepted_calibration_projects_like_opencv(seed):
    ends = run(1000, seed)
    assert {end: ends[end] for end in BAD} == dict.fromkeys(BAD, 0)
    assert ends['accepted'] > 500
    # Every fault occurs.
    assert sum(end.startswith('refused: ') for end in ends) == len(Fuzz(0).faults)
