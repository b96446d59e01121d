# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes on a DDS domain of their own."""

import os
import threading
import time

import pytest

rclpy = pytest.importorskip(
    'rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution'
)
domain_coordinator = pytest.importorskip('domain_coordinator')


class Ros:
    """A context on its own domain, with an executor in the background."""

    def __init__(self, domain_id: int) -> None:
        from face_pose_ros.ros.spinning import Executor

        self.domain_id = domain_id
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self._executor = Executor(context=self.context)
        self._nodes = []
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._running = True
        self._thread.start()

    def _spin(self) -> None:
        while self._running:
            self._executor.spin_once(timeout_sec=0.05)

    def add(self, node):
        self._executor.add_node(node)
        self._nodes.append(node)
        return node

    def wait_for(self, condition, timeout_s: float = 20.0) -> None:
        """Wait until the condition holds; fail with its name if it never does."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, f'not within {timeout_s} s: {condition}'
            time.sleep(0.01)

    def close(self) -> None:
        self._running = False
        self._thread.join()
        for node in self._nodes:
            self._executor.remove_node(node)
            node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def ros():
    """A `Ros` on a domain that no other test or robot uses."""
    with domain_coordinator.domain_id() as domain_id:
        scope = Ros(domain_id)
        yield scope
        scope.close()


@pytest.fixture
def process_env(ros):
    """Environment for a process on the same domain."""
    return {**os.environ, 'ROS_DOMAIN_ID': str(ros.domain_id)}
