# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The example nodes in their own processes, and the statements of docs/consumers.md."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String

from face_pose_ros.ros.consumers.look_at import LookAt

pytestmark = pytest.mark.dds

DOCS = (Path(__file__).parents[3] / 'docs/consumers.md').read_text()


@pytest.mark.parametrize(
    ('name', 'answer', 'kind'),
    [('look_at', 'joint_commands', JointState), ('who_looks', 'who_looks/id', String)],
)
def test_answers_until_interrupted(ros, process_env, name, answer, kind):
    process = subprocess.Popen(
        [sys.executable, '-m', 'face_pose_ros.ros.programs', name], env=process_env
    )
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    states = robot.create_publisher(JointState, 'joint_states', 10)
    poses = robot.create_publisher(PoseStamped, 'face_pose/pose', 10)
    answers = []
    robot.create_subscription(kind, answer, answers.append, 10)

    def answered():
        states.publish(JointState(name=['pan', 'tilt'], position=[0.0, 0.0]))
        poses.publish(PoseStamped())
        return answers

    try:
        ros.wait_for(answered, timeout_s=60)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ('name', 'argument'),
    [
        ('look_at', 'max_speed:=0.0'),
        ('look_at', 'max_sped:=0.2'),
        ('who_looks', 'target_point:=[1.0]'),
        ('who_looks', 'cone:=20'),
    ],
)
def test_a_bad_start_is_one_clear_line(process_env, name, argument):
    run = subprocess.run(
        [
            sys.executable,
            '-m',
            'face_pose_ros.ros.programs',
            name,
            '--ros-args',
            '-p',
            argument,
        ],
        env=process_env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert argument.split(':')[0] in run.stderr
    assert 'Traceback' not in run.stderr
    assert run.stderr.count('[FATAL]') == 1


def test_integers_are_taken_for_numbers(ros):
    given = {'max_speed': 2, 'pan_range': [-1, 1]}
    node = ros.add(
        LookAt(
            context=ros.context,
            use_global_arguments=False,
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
    )
    assert node.get_parameter('max_speed').value == 2.0
    assert list(node.get_parameter('pan_range').value) == [-1.0, 1.0]


def test_the_ten_lines_of_the_docs_run(ros, process_env):
    code = re.search(r'```python\n(.*?)```', DOCS, flags=re.DOTALL)[1]
    process = subprocess.Popen(
        [sys.executable, '-u', '-c', code], env=process_env, stdout=subprocess.PIPE, text=True
    )
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    pub = robot.create_publisher(PoseStamped, 'face_pose/pose', 10)
    try:
        ros.wait_for(lambda: pub.get_subscription_count() == 1)
        msg = PoseStamped(header=Header(frame_id='camera_optical'))
        msg.pose.position.x, msg.pose.position.z = 0.25, 1.5
        pub.publish(msg)
        assert process.stdout.readline() == '1.50 m ahead of camera_optical, 0.25 m to its right\n'
    finally:
        process.kill()
        process.wait()
