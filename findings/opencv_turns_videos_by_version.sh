#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a video of a phone, whose file says by how much it is to be turned for display, read with
# cv2.VideoCapture.
# Seen with opencv-python-headless: 4.10.0.84, 4.12.0.88 and 5.0.0.93 turn the images, 4.11.0.86 does
# not (CAP_PROP_ORIENTATION_AUTO, documented as true by default, is 0). All of them know the angle
# (CAP_PROP_ORIENTATION_META).
# Why it matters: width and height, and the calibration that fits, change with the version; of a
# video that is to be turned by 180 deg the size is equal, and K silently belongs to the other image.
# Set CAP_PROP_ORIENTATION_AUTO.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >videos.py <<'EOF'
import struct
import sys

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 64
image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
image[:20, :30] = 255  # the sensor's first pixels
writer = cv2.VideoWriter('plain.mp4', cv2.VideoWriter.fourcc(*'mp4v'), 30, (WIDTH, HEIGHT))
for _ in range(5):
    writer.write(image)
writer.release()
with open('plain.mp4', 'rb') as file:
    data = bytearray(file.read())
# The matrix of the track header, version 0 (ISO/IEC 14496-12), in 16.16 and 2.30 fixed point.
begin = data.index(b'tkhd') + 44
one, last = 1 << 16, 1 << 30
assert struct.unpack_from('>9i', data, begin) == (one, 0, 0, 0, one, 0, 0, 0, last)
turns = {90: (0, one, 0, -one, 0, 0, 0, 0, last), 180: (-one, 0, 0, 0, -one, 0, 0, 0, last)}
for angle_deg, matrix in turns.items():
    struct.pack_into('>9i', data, begin, *matrix)
    with open('turned.mp4', 'wb') as file:
        file.write(data)
    found = []
    for automatic in (None, 0, 1):
        video = cv2.VideoCapture('turned.mp4')
        if automatic is not None:
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, automatic)
        assert video.get(cv2.CAP_PROP_ORIENTATION_META) == angle_deg
        _, read = video.read()
        is_first = read[:20, :20].mean() > 200
        found.append((read.shape[1], read.shape[0], 'as taken' if is_first else 'turned'))
    by_default, off, on = found
    print(f'opencv {cv2.__version__}, {angle_deg} deg: {by_default} by default, {off} and {on} '
          'with CAP_PROP_ORIENTATION_AUTO of 0 and 1')
    assert off == (WIDTH, HEIGHT, 'as taken')
    assert on[2] == 'turned'
    assert by_default == (off if sys.argv[1] == 'left' else on)
EOF
for version in 4.10.0.84 4.11.0.86 4.12.0.88 5.0.0.93; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q --disable-pip-version-check \
        "opencv-python-headless==$version" numpy==2.2.6
    if [ "$version" = 4.11.0.86 ]; then expected=left; else expected=turned; fi
    PYTHONPATH='' "$folder/$version/bin/python" videos.py "$expected"
done
