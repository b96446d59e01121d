# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faults that robots have: the node survives each and names it on /diagnostics."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.portraits import portrait_view

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from ros.test_node import CAMERA, RGB, Robot, image_msg
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros import silence
from face_pose_ros.ros.conversions import camera_info_msg

pytestmark = pytest.mark.dds

RECOVERY_S = 6.0  # 1 s, and more for a busy machine


class Watched(Robot):
    """A robot that reads diagnostics."""

    def __init__(self, ros, **parameters):
        super().__init__(ros, **parameters)
        self.diagnostics = []
        self.robot.create_subscription(
            DiagnosticArray, '/diagnostics', self.diagnostics.append, 10
        )

    def status(self, part):
        array = self.diagnostics[-1]
        return next(s for s in array.status if s.name.endswith(part))

    def wait_for_status(self, part, level, text=''):
        def has_status():
            if not self.diagnostics:
                return False
            status = self.status(part)
            return status.level == level and text in status.message

        self.ros.wait_for(has_status)

    def answered_within(self, seconds, make=image_msg, info=None):
        """Send frames until one of them is answered; how long that took [s]."""
        start_s, sent, before = time.monotonic(), [], len(self.answers())
        while time.monotonic() - start_s < seconds:
            sent.append(self.header())
            self.send(make(sent[-1]), info(sent[-1]) if info else None)
            time.sleep(0.05)
            if any(answer.header in sent for answer in self.answers()[before:]):
                return time.monotonic() - start_s
        raise AssertionError(f'no answer within {seconds} s')


@pytest.fixture
def robot(ros):
    robot = Watched(ros)
    robot.answered_within(10)
    return robot


def test_a_silent_camera_is_reported_on_the_console_and_in_diagnostics(ros, monkeypatch):
    monkeypatch.setattr(silence, '_START_S', 0.0)
    robot = Watched(ros)
    reason = '/robot publishes /image, but no message has arrived'
    robot.wait_for_status('camera', DiagnosticStatus.WARN, f'no image on /image yet: {reason}')
    ros.wait_for(lambda: len(robot.silences) == 2)
    assert reason in robot.silences[0]
    assert '/robot publishes /camera_info' in robot.silences[1]


def test_the_camera_stops_and_resumes(robot):
    robot.wait_for_status('camera', DiagnosticStatus.OK)
    robot.wait_for_status('camera', DiagnosticStatus.WARN, 'no image for')
    robot.answered_within(RECOVERY_S)
    robot.wait_for_status('camera', DiagnosticStatus.OK)


def test_camera_info_is_calibrated_late(ros):
    robot = Watched(ros)

    def uncalibrated(header):
        info = camera_info_msg(CAMERA, header)
        info.k = np.zeros(9)
        return info

    with pytest.raises(AssertionError):
        robot.answered_within(1.5, info=uncalibrated)
    robot.wait_for_status('camera', DiagnosticStatus.ERROR, 'K[0] is 0')
    robot.answered_within(RECOVERY_S)
    robot.wait_for_status('camera', DiagnosticStatus.OK)


def test_the_resolution_switches_in_flight(robot):
    half = np.ascontiguousarray(RGB[::2, ::2])

    def half_size(header):
        return image_msg(header, half)

    with pytest.raises(AssertionError):
        robot.answered_within(0.5, make=half_size)  # the CameraInfo is still the old one
    assert 'is 256 x 300 px, expected 512 x 600 px' in robot.wait_for_warning('300 px')
    camera = CAMERA.resize(256, 300)
    robot.answered_within(
        RECOVERY_S, make=half_size, info=lambda header: camera_info_msg(camera, header)
    )
    robot.wait_for_status('camera', DiagnosticStatus.OK, '256 x 300 px')


@pytest.mark.parametrize('jump_s', [-1000, 1000])
def test_the_clock_jumps(robot, jump_s):
    robot.count += jump_s
    robot.answered_within(RECOVERY_S)
    stamps = [a.header.stamp.sec for a in robot.answers()]
    assert (np.diff(stamps).min() < 0) == (jump_s < 0)
    if jump_s < 0:
        assert 'went back by' in robot.wait_for_warning('all tracks are deleted')


def test_a_stamp_is_answered_once(robot):
    header = robot.header()

    def answered():
        robot.send(image_msg(header))
        time.sleep(0.05)
        return any(answer.header == header for answer in robot.answers())

    robot.ros.wait_for(answered)
    for _ in range(3):
        robot.send(image_msg(header))
    robot.answered_within(RECOVERY_S)
    assert [a.header for a in robot.answers()].count(header) == 1
    transforms = [t for message in robot.received['/tf'] for t in message.transforms]
    keys = [(t.child_frame_id, t.header.stamp.sec, t.header.stamp.nanosec) for t in transforms]
    assert len(keys) == len(set(keys))


def test_the_device_fails_and_comes_back(robot, monkeypatch):
    lost = robot.node.pipeline.estimator

    def fail(*args):
        raise RuntimeError('CUDA error: device lost')

    # What is on the device is gone for good: only a new estimator can answer.
    monkeypatch.setattr(lost, 'track', fail)
    robot.answered_within(RECOVERY_S)
    assert robot.node.pipeline.estimator is not lost
    # The failed frames took longer than a face is remembered; its id is not given away again.
    assert 'f00001' not in robot.node.pipeline.estimator.tracker.ids
    robot.wait_for_status('device', DiagnosticStatus.ERROR, 'CUDA error: device lost')


def test_the_node_is_killed_and_restarted(ros, process_env):
    rgb, camera = portrait_view()
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    image_pub = robot.create_publisher(Image, 'image', 10)
    info_pub = robot.create_publisher(CameraInfo, 'camera_info', 10)
    answers = []
    robot.create_subscription(PoseArray, 'face_pose/poses', answers.append, 10)

    def send_until_answered():
        header = Header(stamp=robot.get_clock().now().to_msg(), frame_id='camera_optical')
        image_pub.publish(image_msg(header, rgb))
        info_pub.publish(camera_info_msg(camera, header))
        time.sleep(0.05)
        return bool(answers)

    for stop in (signal.SIGKILL, signal.SIGINT):
        answers.clear()
        process = subprocess.Popen(
            [sys.executable, '-m', 'face_pose_ros.ros.programs', 'pose_node'], env=process_env
        )
        try:
            ros.wait_for(send_until_answered, timeout_s=60)
        finally:
            process.send_signal(stop)
            process.wait(timeout=20)
