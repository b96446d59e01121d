#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: intrinsics of a resized image of another aspect ratio, as an OAK camera sends it to a
# network: CalibrationHandler.getCameraIntrinsics(socket, width, height).
# Seen with depthai 3.12.0 (and 2.33.0.0): documented is that it scales by the side that gives the
# higher resolution and crops the other (keepAspectRatio, the default), as the Camera node does by
# default (ImgResizeMode.CROP). It always scales by the width: for an image that is squarer than the
# sensor the matrix is that of the whole sensor above and below which there are bars. Scaling and
# cropping with depthai's own ImgTransformation gives other numbers.
# Why it matters: 640 x 480 of a sensor of 1280 x 800 has a focal length of 480 px, not of 400, and
# 400 x 400 one of 400 px, not of 250: distances are wrong by 17 to 38 %, without a message. Take
# the matrix of the image itself (ImgFrame.getTransformation).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check depthai==3.12.0 numpy==2.2.6
cd "$folder"
export DEPTHAI_LEVEL=error # not that there is no USB here
PYTHONPATH='' venv/bin/python - <<'EOF'
import depthai as dai
import numpy as np

print('depthai', dai.__version__)
WIDTH, HEIGHT = 1280, 800
K = [[800.0, 0, 650], [0, 810, 380], [0, 0, 1]]
socket = dai.CameraBoardSocket.CAM_A
calibration = dai.CalibrationHandler()
calibration.setCameraIntrinsics(socket, K, WIDTH, HEIGHT)
assert 'crops the remaining part' in calibration.getCameraIntrinsics.__doc__


def scaled_and_cropped(width, height):
    """The middle of the image, scaled until it fills the size."""
    scale = max(width / WIDTH, height / HEIGHT)
    image = dai.ImgTransformation(WIDTH, HEIGHT, K)
    image.addScale(scale, scale)
    left, top = round(WIDTH * scale - width) // 2, round(HEIGHT * scale - height) // 2
    image.addCrop(left, top, width, height)
    assert tuple(image.getSize()) == (width, height)
    return np.array(image.getIntrinsicMatrix())


for width, height in ((640, 400), (640, 360), (640, 480), (400, 400)):
    told = np.array(calibration.getCameraIntrinsics(socket, width, height))
    cropped = scaled_and_cropped(width, height)
    print(f'{width} x {height}: CalibrationHandler fx {told[0, 0]:g}, fy {told[1, 1]:g}, cx '
          f'{told[0, 2]:g}, cy {told[1, 2]:g}; scaled and cropped fx {cropped[0, 0]:g}, fy '
          f'{cropped[1, 1]:g}, cx {cropped[0, 2]:g}, cy {cropped[1, 2]:g}')
    assert np.isclose(told[0, 0], K[0][0] * width / WIDTH)
    is_squarer = width * HEIGHT < height * WIDTH
    assert np.allclose(told, cropped, atol=1e-3) != is_squarer
    assert np.isclose(told[0, 0] / cropped[0, 0], 1, atol=0.1) != is_squarer
EOF
