# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""No process of this package looks up a host name."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: make setup, or a distribution')

from geometry_msgs.msg import PoseArray
from rclpy.node import Node

pytestmark = pytest.mark.dds

SOURCE = Path(__file__).parent.parent / 'helpers' / 'lookups.c'
PROGRAMS = ('pose_node', 'demo_camera', 'look_at', 'who_looks')


@pytest.fixture
def recorded(tmp_path, process_env):
    """An environment, and the file in which its processes note the names that they look up."""
    compiler = shutil.which('cc') or shutil.which('gcc')
    if compiler is None:
        pytest.skip('needs a C compiler')
    library, file = tmp_path / 'lookups.so', tmp_path / 'names'
    command = [compiler, '-shared', '-fPIC', '-o', library, SOURCE, '-ldl']
    subprocess.run(command, check=True)
    cache = os.environ.get('XDG_CACHE_HOME', str(Path.home() / '.cache'))
    home = tmp_path / 'home'
    home.mkdir()
    env = {name: value for name, value in process_env.items() if name != 'CI'}
    env |= {'HOME': str(home), 'XDG_CACHE_HOME': cache, 'ROS_LOG_DIR': str(tmp_path / 'log')}
    return {**env, 'LD_PRELOAD': str(library), 'LOOKUPS': str(file)}, file, home


def test_no_process_looks_up_a_host_name(ros, recorded):
    env, names, home = recorded
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    answers = []
    robot.create_subscription(PoseArray, 'face_pose/poses', answers.append, 10)
    processes = [
        subprocess.Popen([sys.executable, '-m', 'face_pose_ros.ros.programs', name], env=env)
        for name in PROGRAMS
    ]
    try:
        ros.wait_for(lambda: any(answer.poses for answer in answers), timeout_s=180)
        wanted = {'face_pose', 'demo_camera', 'look_at', 'who_looks'}
        ros.wait_for(lambda: wanted <= set(robot.get_node_names()), timeout_s=30)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        statuses = [process.wait(timeout=20) for process in processes]
    assert statuses == [0] * len(PROGRAMS)
    assert not names.exists(), names.read_text()
    assert list(home.iterdir()) == []


def test_a_lookup_would_be_noticed(recorded):
    env, names, _ = recorded
    program = (
        "import socket; socket.getaddrinfo('127.0.0.1', 80); socket.gethostbyname('a.invalid')"
    )
    run = subprocess.run([sys.executable, '-c', program], env=env, capture_output=True, text=True)
    assert 'gaierror' in run.stderr
    assert names.read_text().split()[1:] == ['a.invalid']
