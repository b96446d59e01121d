# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two cameras in one process: each has its node, its namespace and its people."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: make setup, or a distribution')

from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from ros.test_node import CAMERA, image_msg
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from face_pose_ros.ros.conversions import camera_info_msg

pytestmark = pytest.mark.dds

COMMAND = [sys.executable, '-m', 'face_pose_ros.ros.programs', 'multi_camera']


class OneCamera:
    """A camera, and who listens to its poses."""

    def __init__(self, node, name):
        self.name, self.node = name, node
        self.image_pub = node.create_publisher(Image, f'{name}/image', qos_profile_sensor_data)
        self.info_pub = node.create_publisher(
            CameraInfo, f'{name}/camera_info', qos_profile_sensor_data
        )
        self.answers = []
        self.markers, self.overlays = [], []
        for topic, kind, received in (
            ('poses', PoseArray, self.answers),
            ('markers', MarkerArray, self.markers),
            ('overlay', Image, self.overlays),
        ):
            node.create_subscription(kind, f'{name}/face_pose/{topic}', received.append, 10)

    def send(self, stamp):
        header = Header(stamp=stamp, frame_id=f'{self.name}_optical')
        self.info_pub.publish(camera_info_msg(CAMERA, header))
        self.image_pub.publish(image_msg(header))


def test_two_cameras_of_one_process_answer_apart(ros, process_env):
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    cameras = [OneCamera(robot, name) for name in ('front', 'arm/left')]
    frames = set()

    def note(message):
        frames.update((t.header.frame_id, t.child_frame_id) for t in message.transforms)

    robot.create_subscription(TFMessage, '/tf', note, 100)
    # The first image may take a busy machine longer than a face is remembered by default.
    patient = ['-p', 'threads:=1', '-p', 'tracking.lost_after_s:=60.0']
    command = [*COMMAND, 'front', 'arm/left', '--ros-args', *patient]
    process = subprocess.Popen(command, env=process_env)
    try:
        for camera in cameras:
            ros.wait_for(lambda c=camera: c.image_pub.get_subscription_count() == 1, timeout_s=60)
            ros.wait_for(lambda c=camera: robot.count_publishers(f'{c.name}/face_pose/poses') == 1)

        def both_have_answered():
            stamp = robot.get_clock().now().to_msg()
            for camera in cameras:
                camera.send(stamp)
            return all(
                len(received) >= 3
                for camera in cameras
                for received in (camera.answers, camera.markers, camera.overlays)
            )

        ros.wait_for(both_have_answered, timeout_s=60)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    for camera in cameras:
        assert all(len(answer.poses) == 1 for answer in camera.answers)
        assert {a.header.frame_id for a in camera.answers} == {f'{camera.name}_optical'}
        labels = [m.text for m in camera.markers[-1].markers if m.ns == 'label']
        assert [label.split()[0] for label in labels] == [
            f'{camera.name.replace("/", "_")}_f00001'
        ]
    assert {frame for frame in frames if frame[1].startswith('face')} == {
        ('front_optical', 'face_front_f00001'),
        ('arm/left_optical', 'face_arm_left_f00001'),
    }


def test_the_namespace_of_the_process_is_in_front_of_the_cameras_own(ros, process_env):
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    arguments = ['front', '/left', '--ros-args', '-r', '__ns:=/kitchen', '-p', 'autostart:=false']
    process = subprocess.Popen([*COMMAND, *arguments], env=process_env)
    expected = {('face_pose', '/kitchen/front'), ('face_pose', '/left')}
    try:
        ros.wait_for(lambda: expected <= set(robot.get_node_names_and_namespaces()), timeout_s=60)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ('namespaces', 'message'),
    [
        ([], 'the following arguments are required: namespace'),
        (['left', '/left'], 'each namespace once, got /left more than once'),
        (['left', 'not a name'], 'Invalid namespace'),
    ],
)
def test_a_bad_start_is_a_clear_error(process_env, namespaces, message):
    run = subprocess.run(
        [*COMMAND, *namespaces], env=process_env, capture_output=True, text=True, timeout=60
    )
    assert run.returncode != 0
    assert message in run.stderr
    assert 'Traceback' not in run.stderr
