#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: depth recorded as 16-bit PNG (CompressedImage with format '16UC1; png compressed ', as
# compressed_image_transport writes it), converted by rosbags-image.
# Seen with rosbags-image 0.10.4: message_to_cvimage() returns uint8, the high byte of each depth,
# without an error: 1250 mm is 4. Asking for '16UC1' is refused, "'bgr8' -> '16UC1'". The format
# 'compressedDepth' is an AssertionError without a text. A raw 16UC1 message is right.
# Why it matters: depth in steps of 256 mm looks like a depth image. Decode it yourself:
# cv2.imdecode(data, cv2.IMREAD_UNCHANGED); compressedDepth has 12 bytes before its PNG.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    rosbags==0.11.9 rosbags-image==0.10.4 opencv-python-headless==4.11.0.86 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version

import cv2
import numpy as np
from rosbags.image import ImageError, message_to_cvimage
from rosbags.typesys import Stores, get_typestore

names = 'rosbags-image', 'rosbags', 'opencv-python-headless', 'numpy'
print(*(f'{name} {version(name)}' for name in names))
types = get_typestore(Stores.ROS2_JAZZY).types
stamp = types['builtin_interfaces/msg/Time'](sec=1, nanosec=0)
header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')
depth_mm = np.array([[1250, 1260, 2047], [800, 0, 65535]], np.uint16)
png = cv2.imencode('.png', depth_mm)[1].ravel()


def compressed(text, data):
    return types['sensor_msgs/msg/CompressedImage'](header=header, format=text, data=data)


raw = types['sensor_msgs/msg/Image'](
    header=header, height=2, width=3, encoding='16UC1', is_bigendian=0, step=6,
    data=depth_mm.view(np.uint8).ravel(),
)
assert (message_to_cvimage(raw) == depth_mm).all()
assert (cv2.imdecode(png, cv2.IMREAD_UNCHANGED) == depth_mm).all()
for text in '16UC1; png compressed ', 'png':
    found = message_to_cvimage(compressed(text, png))
    print(f"'{text}': {depth_mm.tolist()} becomes {found.dtype} {found.tolist()}")
    assert found.dtype == np.uint8 and np.abs(found - (depth_mm >> 8).astype(int)).max() <= 1
try:
    message_to_cvimage(compressed('16UC1; png compressed ', png), '16UC1')
except ImageError as error:
    print("as '16UC1':", error)
else:
    raise SystemExit('16UC1 is given now')
with_head = np.concatenate([np.zeros(12, np.uint8), png])
try:
    message_to_cvimage(compressed('16UC1; compressedDepth png', with_head))
except AssertionError as error:
    print(f"compressedDepth: AssertionError '{error}'")
    assert not str(error)
else:
    raise SystemExit('compressedDepth is taken now')
EOF
