#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: fields of a ROS 2 message set in Python with an int or a numpy.float32 where float64 is
# declared, and serialized as publish() does; the same with ROS_PYTHON_CHECK_FIELDS=1.
# Seen with ros-rclpy 9.1.2 and ros-geometry-msgs 5.5.1: no error, and other numbers are sent: 3
# becomes 5e-324 (4e-323 from Python 3.12 on), -2 NaN, float32(1.5) 5e-315. The object's memory is
# taken for a double. The message in Python still shows 3. With the variable set, the assignment
# raises an AssertionError.
# Why it matters: `pose.position.z = 3` puts a head into the camera. Write float(...), and set
# the variable in tests.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    ros-rclpy==9.1.2 ros-rmw-fastrtps-cpp==9.3.3 ros-geometry-msgs==5.5.1 numpy==2.2.6
cd "$folder"
cat >fields.py <<'EOF'
from importlib.metadata import version

import numpy as np
from geometry_msgs.msg import Point
from rclpy.serialization import deserialize_message, serialize_message

print(*(f'{name} {version(name)}' for name in ('ros-rclpy', 'ros-geometry-msgs', 'numpy')))


def received(value):
    sent = Point()
    try:
        sent.x = value
    except AssertionError as error:
        return str(error)
    assert sent.x == value
    return deserialize_message(serialize_message(sent), Point).x


EOF
cat >unchecked.py <<'EOF'
from fields import np, received

for value in 3.0, np.float64(1.5), np.float32(1.5).item():
    assert received(value) == value
for value in 3, 1000, -2, True, np.float32(1.5):
    found = received(value)
    print(f'x = {value!r}: received {found!r}')
    assert not abs(found) > 1e-300
EOF
cat >checked.py <<'EOF'
from fields import np, received

for value in 3, np.float32(1.5):
    found = received(value)
    print(f'checked, x = {value!r}: {found}')
    assert found == "The 'x' field must be of type 'float'"
EOF
export PYTHONPATH=''
env -u ROS_PYTHON_CHECK_FIELDS venv/bin/python unchecked.py
ROS_PYTHON_CHECK_FIELDS=1 venv/bin/python checked.py
