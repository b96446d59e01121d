#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a thread destroys a publisher or a subscription of a node (Node.destroy_publisher,
# Node.destroy_subscription) while another one spins that node.
# Seen with ros-rclpy 9.1.2 and ros-rmw-fastrtps-cpp 9.3.3: now and then SingleThreadedExecutor raises
# InvalidHandle out of spin_once, from EventHandler.add_to_wait_set: the executor leaves out
# subscriptions that have gone since it listed them, but not the event handlers that every publisher
# and subscription has. A short switch interval only makes it frequent. The executor can go on.
# Why it matters: spin() ends, and with it most programs, hours after the start. Destroy on the
# executor's thread, or catch InvalidHandle around wait_for_ready_callbacks.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    ros-rclpy==9.1.2 ros-rmw-fastrtps-cpp==9.3.3 ros-std-msgs==5.5.1
cd "$folder"
cat >race.py <<'EOF'
import sys
import threading
import time
import traceback
from importlib.metadata import version

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String

print(*(f'{name} {version(name)}' for name in ('ros-rclpy', 'ros-rmw-fastrtps-cpp')))
sys.setswitchinterval(1e-6)
rclpy.init()
node = rclpy.create_node('churning')
executor = SingleThreadedExecutor()
executor.add_node(node)
calls = []
node.create_timer(0.001, lambda: calls.append(True))


def churn(kind, *callback):
    create, destroy = getattr(node, f'create_{kind}'), getattr(node, f'destroy_{kind}')
    while not done.is_set():
        destroy(create(String, kind, *callback, 10))


for kind, *callback in (['publisher'], ['subscription', lambda _: None]):
    done = threading.Event()
    thread = threading.Thread(target=churn, args=(kind, *callback))
    thread.start()
    end_s, raised, places = time.monotonic() + 60, 0, set()
    while raised < 3 and time.monotonic() < end_s:
        try:
            executor.spin_once(timeout_sec=0.1)
        except InvalidHandle as error:
            raised += 1
            places.add(traceback.extract_tb(error.__traceback__)[-1].name)
    done.set()
    thread.join()
    print(f'destroy_{kind}: InvalidHandle {raised} times, raised by', *places)
    assert raised, 'not within 60 s: mended?'
    assert places == {'add_to_wait_set'}
calls.clear()
executor.spin_once(timeout_sec=5)
print('afterwards the executor', 'goes on' if calls else 'stands still')
assert calls
EOF
PYTHONPATH='' ROS_DOMAIN_ID=97 venv/bin/python race.py
