# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""REP-155's topics: there with hri_msgs, absent without it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from helpers.hri_msgs import environment_with_hri_msgs
from hri_robot import Robot

pytestmark = pytest.mark.dds

CASES = Path(__file__).with_name('hri_cases.py')


@pytest.mark.slow
def test_with_hri_msgs(request):
    env = environment_with_hri_msgs(request.config.cache.mkdir('hri_msgs'))
    run = subprocess.run(
        [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-q', CASES],
        cwd=request.config.rootpath,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout
    assert 'skipped' not in run.stdout, run.stdout


@pytest.mark.skipif(importlib.util.find_spec('hri_msgs') is not None, reason='has hri_msgs')
def test_without_hri_msgs_nothing_is_missed(ros, capfd):
    robot = Robot(ros)
    answer = robot.show(robot.two_people)
    assert len(answer.faces) == 2
    topics = [name for name, _ in robot.node.get_topic_names_and_types()]
    assert '/face_pose/poses' in topics
    assert not [name for name in topics if name.startswith('/humans')]
    assert 'face_pose_ros.ros.hri' not in sys.modules
    assert 'WARN' not in capfd.readouterr().err
