#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: pypcd4's PointCloud.from_msg() of organised clouds, as depth cameras send them, with padded
# rows (row_step > width * point_step) or with is_bigendian.
# Seen with pypcd4 1.5.1: both fields are ignored without an error. The padding becomes points, so
# that all rows after the first are shifted and the number of points is no longer width * height;
# where the padding is no multiple of point_step, x, y and z are mixed. Big-endian numbers are read
# as little-endian ones, about 1e-41.
# Why it matters: a point of a pixel is that of another one, and files written from such messages
# are wrong for ever. Cut rows and swap bytes before.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pypcd4==1.5.1 numpy==2.2.6 \
    ros-sensor-msgs==5.5.1 ros-rclpy==9.1.2 ros-rmw-fastrtps-cpp==9.3.3
cd "$folder"
cat >clouds.py <<'EOF'
from importlib.metadata import version

import numpy as np
from pypcd4 import PointCloud
from sensor_msgs.msg import PointCloud2, PointField

print(*(f'{name} {version(name)}' for name in ('pypcd4', 'numpy')))
WIDTH, HEIGHT, STEP = 5, 4, 16
XYZ = np.arange(WIDTH * HEIGHT * 3, dtype=np.float32).reshape(HEIGHT, WIDTH, 3) / 16


def cloud(padding=0, is_bigendian=False):
    """XYZ as a message: 12 bytes of each point are used, 4 are not."""
    row_step = WIDTH * STEP + padding
    data = np.zeros((HEIGHT, row_step), np.uint8)
    points = data[:, : WIDTH * STEP].reshape(HEIGHT, WIDTH, STEP).copy()
    numbers = XYZ.astype('>f4' if is_bigendian else '<f4')
    points[..., :12] = numbers.view(np.uint8).reshape(HEIGHT, WIDTH, 12)
    data[:, : WIDTH * STEP] = points.reshape(HEIGHT, -1)
    return PointCloud2(
        height=HEIGHT,
        width=WIDTH,
        fields=[
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate('xyz')
        ],
        is_bigendian=is_bigendian,
        point_step=STEP,
        row_step=row_step,
        data=data.tobytes(),
        is_dense=True,
    )


for name, message, count in (
    ('plain', cloud(), 20),
    ('rows padded by one point', cloud(padding=16), 24),
    ('rows padded by 8 bytes', cloud(padding=8), 22),
    ('big-endian', cloud(is_bigendian=True), 20),
):
    read = PointCloud.from_msg(message)
    found = read.numpy(('x', 'y', 'z'))
    right = (found[: WIDTH * HEIGHT] == XYZ.reshape(-1, 3)).all(-1)
    print(f'{name}: {read.points} points of {WIDTH} x {HEIGHT}, {right.sum()} right; the first '
          f'of the second row {found[WIDTH]}, true {XYZ[1, 0]}')
    assert read.points == count
    assert right.sum() == {'plain': 20, 'big-endian': 0}.get(name, WIDTH)
EOF
PYTHONPATH='' venv/bin/python clouds.py
