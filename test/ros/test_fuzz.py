# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Malformed messages: processed or refused with a reason, never a crash, a hang or a NaN."""

import pytest

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from benchmarks.fuzz_messages import run


@pytest.mark.parametrize('seed', [1, 2])
def test_no_message_brings_the_pipeline_down(seed):
    ends = run(500, seed)
    assert ends['crashed'] == ends['hung'] == ends['not finite'] == 0
    # The messages are bad enough, and some are good.
    assert min(ends[reason] for reason in ('camera_info', 'image', 'size')) > 5
    assert ends['faces'] > 20
