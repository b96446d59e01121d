#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a stamp with negative seconds, which the definition of builtin_interfaces/msg/Time allows:
# simulators and recordings that put zero at the begin of an experiment send them.
# Seen with ros-rclpy 9.1.2 and ros-builtin-interfaces 2.3.0: rclpy.time.Time.from_msg raises
# ValueError, "Seconds value must not be negative". One such message on /clock raises it out of
# spin of every node with use_sim_time, whose own code never sees the message.
# Why it matters: all Python nodes of a robot end when the simulation is reset to before zero.
# Compute with sec and nanosec of a header's stamp; shift the simulation's time.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    ros-rclpy==9.1.2 ros-rmw-fastrtps-cpp==9.3.3 ros-rosgraph-msgs==2.3.0
cd "$folder"
cat >clock.py <<'EOF'
import time
from importlib.metadata import version

import rclpy
from builtin_interfaces.msg import Time as Stamp
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

print(*(f'{name} {version(name)}' for name in ('ros-rclpy', 'ros-builtin-interfaces')))
before_zero = Stamp(sec=-1, nanosec=500_000_000)  # the message takes it
try:
    Time.from_msg(before_zero)
except ValueError as error:
    text = str(error)
print('Time.from_msg: ValueError:', text)
assert 'negative' in text

rclpy.init()
simulator = rclpy.create_node('simulator')
clock = simulator.create_publisher(Clock, '/clock', 10)
node = rclpy.create_node('idle', parameter_overrides=[Parameter('use_sim_time', value=True)])
end_s, raised = time.monotonic() + 30, None
while raised is None and time.monotonic() < end_s:
    clock.publish(Clock(clock=before_zero))
    try:
        rclpy.spin_once(node, timeout_sec=0.1)
    except ValueError as error:
        raised = error
print('spin of a node with use_sim_time:', repr(raised))
assert raised is not None, 'not within 30 s: mended?'
EOF
PYTHONPATH='' ROS_DOMAIN_ID=97 venv/bin/python clock.py
