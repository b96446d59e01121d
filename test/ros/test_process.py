"""The node as a process of its own: poses over DDS, and clear errors at start."""

import signal
import subprocess
import sys
import time

import pytest
from helpers.portraits import portrait_view

pytest.importorskip('rclpy', reason='needs ROS 2: make setup, or a distribution')

from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros.conversions import camera_info_msg

pytestmark = pytest.mark.dds

COMMAND = [sys.executable, '-m', 'face_pose_ros.ros.node']


def test_images_to_poses_between_two_processes(ros, process_env):
    rgb, camera = portrait_view()
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    image_pub = robot.create_publisher(Image, 'image', qos_profile_sensor_data)
    info_pub = robot.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
    answers = []
    robot.create_subscription(PoseArray, 'face_pose/poses', answers.append, 10)
    process = subprocess.Popen(COMMAND, env=process_env)
    try:
        ros.wait_for(lambda: image_pub.get_subscription_count() == 1, timeout_s=60)
        ros.wait_for(lambda: robot.count_publishers('face_pose/poses') == 1)
        sent = []

        def send_until_answered_ten_times():
            header = Header(stamp=robot.get_clock().now().to_msg(), frame_id='camera_optical')
            sent.append(header)
            info_pub.publish(camera_info_msg(camera, header))
            height, width = rgb.shape[:2]
            image_pub.publish(
                Image(
                    header=header,
                    height=height,
                    width=width,
                    encoding='rgb8',
                    step=3 * width,
                    data=rgb.tobytes(),
                )
            )
            time.sleep(0.05)
            return len(answers) >= 10

        ros.wait_for(send_until_answered_ten_times, timeout_s=60)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert all(len(answer.poses) == 1 for answer in answers)
    assert all(answer.header in sent for answer in answers)


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ('device:=cuda:99', "device 'cuda:99' is not one of auto, cpu"),
        ('detector.min_face_px:=1.5', 'detector.min_face_px'),
        ('detector.min_face:=50.0', 'did you mean detector.min_face_px?'),
    ],
)
def test_a_bad_start_is_one_clear_line(process_env, argument, message):
    run = subprocess.run(
        [*COMMAND, '--ros-args', '-p', argument],
        env=process_env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert message in run.stderr
    assert 'Traceback' not in run.stderr
    assert run.stderr.count('[FATAL]') == 1
