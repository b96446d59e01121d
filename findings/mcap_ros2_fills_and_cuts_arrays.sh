#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: messages written with mcap-ros2-support from dicts, with an array of the wrong length, a
# misspelt field, or a name in the spelling of ROS 1 (K for k).
# Seen with mcap-ros2-support 0.6.0: no error. A fixed array that is too short is filled with
# zeros, one too long is cut, unknown names are dropped and theirs is written as zeros.
# Why it matters: a calibration K of 8 numbers is recorded with K[8] = 0, one called "K" as zeros
# ("not calibrated"). rosbags refuses an array of the wrong length.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mcap==1.6.0 mcap-ros2-support==0.6.0
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
import io
from importlib.metadata import version
from mcap_ros2.reader import read_ros2_messages
from mcap_ros2.writer import Writer

print('mcap-ros2-support', version('mcap-ros2-support'))
K = [600.0, 0.0, 320.0, 0.0, 605.0, 240.0, 0.0, 0.0, 1.0]
cases = {
    'nine numbers': ({'height': 480, 'k': K}, (480, K)),
    'eight numbers': ({'height': 480, 'k': K[:8]}, (480, [*K[:8], 0.0])),
    'ten numbers': ({'height': 480, 'k': [*K, 7.0]}, (480, K)),
    'K for k': ({'height': 480, 'K': K}, (480, [0.0] * 9)),
    'hight for height': ({'hight': 480, 'k': K}, (0, K)),
}
for name, (message, expected) in cases.items():
    file = io.BytesIO()
    writer = Writer(file)
    schema = writer.register_msgdef('camera_msgs/msg/Info', 'uint32 height\nfloat64[9] k')
    writer.write_message('/camera', schema, message, log_time=1, publish_time=1)
    writer.finish()
    (read,) = read_ros2_messages(io.BytesIO(file.getvalue()))
    found = read.ros_msg.height, list(read.ros_msg.k)
    print(f'{name}: height {found[0]}, k {found[1]}')
    assert found == expected
EOF
