#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: parameters with leading zeros, as `ros2 run ... -p id:=07` or a parameter file gives
# them (numbers of robots, serial numbers, angles).
# Seen with ros-rclpy 9.1.2 (ros-rcl-yaml-param-parser 10.1.3): 07 is the integer 7, 010 the
# integer 8 and 0123 the integer 83 (octal), but 08 and 09 are doubles, and 0o10, as YAML 1.2
# writes octal numbers, is a string. PyYAML takes 08 as a string.
# Why it matters: a loop over robots 01 to 10 starts seven, two fail with a wrong type and the
# last is the eighth; a serial number 0123 is another device. Quote it: -p 'serial:="0123"'.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    ros-rclpy==9.1.2 ros-rmw-fastrtps-cpp==9.3.3 PyYAML==6.0.4
cd "$folder"
cat >zeros.py <<'EOF'
from importlib.metadata import version

import rclpy
import yaml

names = 'ros-rclpy', 'ros-rcl-yaml-param-parser', 'PyYAML'
print(*(f'{name} {version(name)}' for name in names))
options = {'automatically_declare_parameters_from_overrides': True}


def parameter(text):
    rclpy.init(args=['--ros-args', '-p', f'x:={text}'])
    node = rclpy.create_node('robot', **options)
    value = node.get_parameter('x').value
    node.destroy_node()
    rclpy.shutdown()
    return value


expected = {
    '7': (7, 7), '07': (7, 7), '08': (8.0, '08'), '09': (9.0, '09'), '010': (8, 8),
    '0123': (83, 83), '0o10': ('0o10', '0o10'), '"0123"': ('0123', '0123'),
}
for text, values in expected.items():
    found = parameter(text), yaml.safe_load(text)
    print(f'x:={text}: rclpy {found[0]!r}, PyYAML {found[1]!r}')
    assert found == values and list(map(type, found)) == list(map(type, values))
EOF
PYTHONPATH='' ROS_DOMAIN_ID=97 venv/bin/python zeros.py
