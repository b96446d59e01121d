#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: Executor.shutdown() while another thread spins and a callback is running. Documented: "Stop
# executing callbacks and wait for their completion", at most timeout_sec; True if all outstanding
# callbacks finished.
# Seen with ros-rclpy 9.1.2: SingleThreadedExecutor.shutdown() returns True at once, while the
# callback goes on for a second: it waits only if the executor is not shut down, just after it has
# set that it is.
# Why it matters: what is destroyed next, node, device or memory, is still in use: errors and
# crashes at the end of a program. Join the thread that spins instead.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    ros-rclpy==9.1.2 ros-rmw-fastrtps-cpp==9.3.3
cd "$folder"
cat >shutdown.py <<'EOF'
import threading
import time
from importlib.metadata import version

import rclpy
from rclpy.executors import SingleThreadedExecutor

print('ros-rclpy', version('ros-rclpy'))
rclpy.init()
node = rclpy.create_node('node')
begun, ended = threading.Event(), threading.Event()


def callback():
    begun.set()
    time.sleep(1.0)
    timer.cancel()
    ended.set()


timer = node.create_timer(0.01, callback)
executor = SingleThreadedExecutor()
executor.add_node(node)
spinning = threading.Thread(target=executor.spin)
spinning.start()
begun.wait()
assert 'wait for their completion' in executor.shutdown.__doc__
begin_s = time.monotonic()
answer = executor.shutdown(timeout_sec=10.0)
waited_s, had_ended = time.monotonic() - begin_s, ended.is_set()
print(f'shutdown() returned {answer} after {waited_s:.2f} s;',
      f'the callback had {"" if had_ended else "not "}ended')
spinning.join()
assert answer is True
assert not had_ended
assert ended.is_set()
node.destroy_node()
rclpy.shutdown()
EOF
PYTHONPATH='' ROS_DOMAIN_ID=97 venv/bin/python shutdown.py
