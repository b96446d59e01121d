# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node as a process of its own: poses over DDS, clear errors at start, silence at the end."""

import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.portraits import portrait_view

pytest.importorskip('rclpy', reason='needs ROS 2: make setup, or a distribution')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros import programs
from face_pose_ros.ros.conversions import camera_info_msg

pytestmark = pytest.mark.dds

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, '-m', 'face_pose_ros.ros.programs', 'pose_node']


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
        ('use_sim_time:=maybe', "'use_sim_time' to 'maybe' of type 'STRING'"),
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


PROGRAMS = [sys.executable, '-m', 'face_pose_ros.ros.programs']


def slow_pose_node():
    """Command of a pose node that loads its networks for ten minutes."""
    code = (
        'import time; from face_pose_ros.estimator import FacePoseEstimator as Estimator;'
        'Estimator.warm_up = lambda self: time.sleep(600);'
        'from face_pose_ros.ros.programs import pose_node; pose_node()'
    )
    return [sys.executable, '-c', code]


@contextmanager
def started(command, env):
    """A process, and its output once it has ended."""
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ended_in_silence(process, signals=1, within_s=4.0, number=signal.SIGINT) -> str:
    """Interrupt the process; its output up to its end, which has to come soon."""
    for _ in range(signals):
        process.send_signal(number)
    output, _ = process.communicate(timeout=within_s)  # 2 s, and as much for a busy machine
    assert process.returncode == 0, output
    assert 'Traceback' not in output
    assert 'failed' not in output
    assert 'FATAL' not in output
    return output


@pytest.mark.parametrize('name', ['pose_node', 'demo_camera', 'look_at', 'demo_checker'])
def test_ctrl_c_during_the_imports_is_silent(process_env, name):
    env = process_env | {'PYTHONPROFILEIMPORTTIME': '1'}  # a line for each import
    with started([*PROGRAMS, name], env) as process:
        assert any('numpy' in line for line in process.stdout)
        ended_in_silence(process)


@pytest.mark.parametrize('signals', [1, 2])
def test_while_the_node_loads_it_reports_its_state_responds_and_ends_on_ctrl_c(
    ros, process_env, signals
):
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    statuses = []
    robot.create_subscription(
        DiagnosticArray, '/diagnostics', lambda msg: statuses.extend(msg.status), 10
    )
    with started(slow_pose_node(), process_env) as process:
        client = robot.create_client(GetState, '/face_pose/get_state')
        ros.wait_for(client.service_is_ready, timeout_s=60)
        answers = []

        def answered() -> bool:
            # An answer sent before the ways there and back are both known is lost.
            answers.append(client.call_async(GetState.Request()))
            time.sleep(0.2)
            return any(future.done() for future in answers)

        ros.wait_for(answered, timeout_s=30)
        (label,) = {f.result().current_state.label for f in answers if f.done()}
        assert label == 'configuring'
        ros.wait_for(lambda: any(s.message == 'loading the networks' for s in statuses))
        output = ended_in_silence(process, signals)
    assert 'loading the networks' in output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_two_interruptions_end_an_active_node_in_silence(ros, process_env, number):
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    with started([*PROGRAMS, 'pose_node'], process_env) as process:
        ros.wait_for(lambda: robot.count_subscribers('image') == 1, timeout_s=120)
        ended_in_silence(process, signals=2, number=number)


# A node that does the transitions named by its arguments and is interrupted within the last, which
# then ends before the process does.
INTERRUPTED_WITHIN = """
import os, signal, sys, threading, time
from face_pose_ros.ros.node import PoseNode, main
from rclpy.lifecycle import TransitionCallbackReturn

transitions = sys.argv[1].split(',')
transition = getattr(PoseNode, f'on_{transitions[-1]}')

def interrupted(node, state):
    os.kill(os.getpid(), signal.SIGINT)
    end_s = time.monotonic() + 0.3
    while node.context.ok() and time.monotonic() < end_s:
        time.sleep(0.01)
    return transition(node, state)

def trigger(node):
    results = [getattr(node, f'trigger_{name}')() for name in transitions]
    return all(result == TransitionCallbackReturn.SUCCESS for result in results)

def stop_working_after_transitions(node):
    for thread in threading.enumerate():
        if thread.name in ('autostart', 'transition'):
            thread.join(10)
    return stop_working(node)

stop_working = PoseNode.stop_working
PoseNode.stop_working = stop_working_after_transitions
setattr(PoseNode, f'on_{transitions[-1]}', interrupted)
PoseNode.autostart = trigger
main(sys.argv[:1] + sys.argv[2:])
"""


@pytest.mark.parametrize(
    'transitions',
    [
        'configure',
        'configure,activate',
        'configure,activate,deactivate',
        'configure,cleanup',
        'configure,activate,shutdown',
    ],
)
def test_ctrl_c_within_a_transition_is_silent(process_env, transitions):
    with started([sys.executable, '-c', INTERRUPTED_WITHIN, transitions], process_env) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert 'ERROR' not in output
    assert 'Traceback' not in output


def test_ctrl_c_within_a_transition_of_a_manager_is_silent(ros, process_env):
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    arguments = ['configure', '--ros-args', '-p', 'autostart:=false']
    command = [sys.executable, '-c', INTERRUPTED_WITHIN, *arguments]
    with started(command, process_env) as process:
        client = robot.create_client(ChangeState, '/face_pose/change_state')
        ros.wait_for(client.service_is_ready, timeout_s=60)
        requests = []

        def has_ended() -> bool:
            # A request before the service knows the client may be lost.
            transition = Transition(id=Transition.TRANSITION_CONFIGURE)
            requests.append(client.call_async(ChangeState.Request(transition=transition)))
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.5)
            return process.returncode is not None

        ros.wait_for(has_ended, timeout_s=60)
        output, _ = process.communicate()
    assert process.returncode == 0, output
    # The answer to a request that arrives after the one that took effect.
    of_repetition = 'Unable to start transition'
    errors = [
        line for line in output.splitlines() if 'ERROR' in line and of_repetition not in line
    ]
    assert errors == []
    assert 'Traceback' not in output


def test_the_reason_of_a_failed_start_is_the_last_line(process_env):
    command = [*PROGRAMS, 'pose_node', '--ros-args', '-p', 'device:=cuda:99']
    with started(command, process_env) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "device 'cuda:99' is not one of auto, cpu" in output.splitlines()[-1]


def test_every_executable_is_a_program():
    entry_points = re.findall(
        r"'(\w+) = \{NAME\}\.ros\.(\S+?):(\w+)'", (ROOT / 'setup.py').read_text()
    )
    assert len(entry_points) > 5
    for name, module, function in entry_points:
        if name == 'face_pose_bag':  # ends on Ctrl-C by itself, with a line of its own
            continue
        assert (module, function) == ('programs', name)
        assert find_spec(f'face_pose_ros.ros.{getattr(programs, name).args[0]}')
