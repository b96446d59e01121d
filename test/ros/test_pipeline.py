# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images in another order than they were taken."""

import pytest
from helpers.portraits import portrait_view

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from ros.test_node import image_msg
from std_msgs.msg import Header

from face_pose_ros.ros.conversions import camera_info_msg
from face_pose_ros.ros.parameters import Parameters
from face_pose_ros.ros.pipeline import FrameError, FramePipeline

RGB, CAMERA = portrait_view()


@pytest.fixture(scope='module')
def pipeline():
    return FramePipeline(Parameters(device='cpu'), '/image', '/info', lambda cause, text: None)


def ids_at(pipeline, stamp_s):
    header = Header(frame_id='camera')
    header.stamp = Time(sec=int(stamp_s), nanosec=round(stamp_s % 1 * 1e9))
    info = camera_info_msg(CAMERA, header)
    answer = pipeline.answer(image_msg(header, RGB), info, Parameters(device='cpu'))
    return [face.id for face in answer.faces]


def test_a_late_image_is_dropped_and_ends_no_track(pipeline):
    before = ids_at(pipeline, 100.0)
    assert len(before) == 1
    with pytest.raises(FrameError, match='/image: an image is 40 ms older') as error:
        ids_at(pipeline, 99.96)
    assert error.value.reason == 'late'
    assert ids_at(pipeline, 100.04) == before


def test_a_clock_that_is_set_back_begins_new_tracks(pipeline):
    before = ids_at(pipeline, 200.0)
    after = ids_at(pipeline, 199.0)
    assert len(after) == 1
    assert after != before
