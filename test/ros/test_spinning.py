# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Spinning: an interruption ends it in silence; what other threads destroy does not end it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: make setup, or a distribution')

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions, get_current_signal_handlers_options
from rclpy.waitable import NumberOfEntities, Waitable
from std_msgs.msg import String

from face_pose_ros.ros.spinning import Executor, Interruption, init, until_interrupted


class _Meanwhile(Waitable):
    """Lets another thread act once, when the executor has gathered what it will wait for."""

    def __init__(self, act):
        super().__init__(ReentrantCallbackGroup())
        self._threads = [threading.Thread(target=act)]

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass

    def get_num_entities(self):
        return NumberOfEntities()

    def add_to_wait_set(self, wait_set):
        while self._threads:
            thread = self._threads.pop()
            thread.start()
            thread.join()

    def is_ready(self, wait_set):
        return False


@pytest.fixture
def node(ros):
    node = Node('spun', context=ros.context, use_global_arguments=False)
    yield node
    node.destroy_node()


@pytest.mark.dds
@pytest.mark.parametrize('kind', ['publisher', 'subscription'])
def test_another_thread_may_destroy_what_the_executor_is_about_to_wait_for(ros, node, kind):
    callback = {'subscription': [lambda _: None]}.get(kind, [])
    node.add_waitable(_Meanwhile(lambda: getattr(node, f'destroy_{kind}')(entity)))
    entity = getattr(node, f'create_{kind}')(String, 'topic', *callback, 10)
    executor = Executor(context=ros.context)
    executor.add_node(node)
    called = []
    node.create_timer(0.01, lambda: called.append(True))
    executor.spin_once(timeout_sec=20)
    assert called
    executor.shutdown()


def test_an_interruption_is_no_error():
    with until_interrupted():
        raise KeyboardInterrupt


def test_an_executor_on_a_context_that_has_ended_is_no_error():
    assert not rclpy.ok()
    with until_interrupted():
        raise RuntimeError('failed to initialize wait set')


def test_an_error_of_a_callback_is_one():
    rclpy.init()
    try:
        with pytest.raises(RuntimeError, match='broken'), until_interrupted():
            raise RuntimeError('broken')
    finally:
        rclpy.shutdown()


@pytest.mark.parametrize(
    ('argument', 'named'),
    [
        (['--params-file', '/nowhere/pose.yaml'], '/nowhere/pose.yaml'),
        (['-r', 'image:=front camera'], 'image:=front camera'),
        (['-r', '__ns:=robot'], '__ns:=robot'),
        (['-p', 'autostart'], 'autostart'),
        (['--log-level', 'chatty'], 'chatty'),
        (['--parameters', 'pose.yaml'], "unknown arguments ['--parameters'"),
    ],
)
def test_a_malformed_argument_of_ros_ends_the_start_with_one_line(argument, named, monkeypatch):
    monkeypatch.setattr(signal, 'signal', lambda *_: None)
    with pytest.raises(SystemExit, match='ROS cannot start') as stopped:
        init(['--ros-args', *argument])
    text = str(stopped.value)
    assert named in text
    assert '\n' not in text
    assert '/rcl/' not in text
    assert not rclpy.ok()


def test_a_log_folder_that_cannot_be_made_ends_the_start_with_the_remedy():
    # In a process of its own: rclpy sets up its log once.
    run = subprocess.run(
        [sys.executable, '-m', 'face_pose_ros.ros.programs', 'look_at'],
        env=os.environ | {'ROS_LOG_DIR': '/proc/none'},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith('ROS cannot start')
    assert "'/proc/none'" in line
    assert 'set ROS_LOG_DIR' in line


def test_in_another_thread_the_context_ends_with_the_interruption():
    stop = Interruption()
    thread = threading.Thread(target=init, args=[[], stop])
    thread.start()
    thread.join()
    try:
        assert get_current_signal_handlers_options() == SignalHandlerOptions.ALL
    finally:
        rclpy.shutdown()


def test_a_signal_that_the_kernel_gives_to_another_thread_ends_the_wait():
    # In a process of its own, because the wait can't be given up.
    program = """if True:
        import signal, threading, time
        from face_pose_ros.ros.spinning import Interruption
        stop = Interruption()
        stop.on_signals()
        def interrupt():
            time.sleep(0.3)  # the main thread waits by then
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        stop.wait()
        print('ended')
    """
    run = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=20
    )
    assert run.stdout == 'ended\n', run.stderr


def test_a_thread_ends_the_wait():
    stop = Interruption()
    threading.Timer(0.05, stop.set).start()
    stop.wait()
    assert stop.is_set()
