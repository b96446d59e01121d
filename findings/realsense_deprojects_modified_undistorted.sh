#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: librealsense's rs2_project_point_to_pixel and its inverse rs2_deproject_pixel_to_point, for
# its models that have OpenCV's five coefficients.
# Seen with pyrealsense2 2.59.1.11053: for modified_brown_conrady, projecting applies the
# coefficients and deprojecting leaves them out, without a message (the assertion in the source is
# not in release builds): points come back 12 px from their pixels. brown_conrady is OpenCV's
# plumb_bob, in both directions. inverse_brown_conrady, the colour cameras' model, is no inverse:
# it projects as modified_brown_conrady does, and deprojects rightly.
# Why it matters: who fills rs.intrinsics from a CameraInfo with `modified`, which reads like
# OpenCV's model, measures points off to the side by centimetres. Set brown_conrady.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    pyrealsense2==2.59.1.11053 opencv-python-headless==4.11.0.86 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version

import cv2
import numpy as np
import pyrealsense2 as rs

print('pyrealsense2', version('pyrealsense2'), 'opencv', cv2.__version__)
width, height = 1280, 720
K = np.array([[905.0, 0, 645], [0, 907, 365], [0, 0, 1]])
D = np.array([-0.056, 0.066, 0.0009, -0.0003, -0.021])  # k1 k2 p1 p2 k3, of a colour camera
u, v = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9))
pixels = np.stack([u, v], -1).reshape(-1, 2)
xy = cv2.undistortPointsIter(pixels[:, None], K, D, None, None, (3, 100, 1e-12)).reshape(-1, 2)
points = 2.0 * np.column_stack([xy, np.ones(len(xy))])  # 2 m away
by_opencv = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, D)[0][:, 0]
assert np.abs(by_opencv - pixels).max() < 1e-6
lens = rs.intrinsics()
lens.width, lens.height = width, height
lens.fx, lens.fy, lens.ppx, lens.ppy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
lens.coeffs = D.tolist()
for model, px, m in (
    (rs.distortion.brown_conrady, 0.0, 0.0),
    (rs.distortion.inverse_brown_conrady, 0.0, 0.0),
    (rs.distortion.modified_brown_conrady, 11.68, 0.0262),
):
    lens.model = model
    projected = np.array([rs.rs2_project_point_to_pixel(lens, p.tolist()) for p in points])
    back = np.array([rs.rs2_deproject_pixel_to_point(lens, p.tolist(), 2.0) for p in pixels])
    again = np.array([rs.rs2_project_point_to_pixel(lens, p.tolist()) for p in back])
    off_px = np.linalg.norm(projected - pixels, axis=1).max()
    off_m = np.linalg.norm(back - points, axis=1).max()
    trip_px = np.linalg.norm(again - pixels, axis=1).max()
    print(f'{model}: projects within {off_px:.2f} px of OpenCV, deprojects within '
          f'{1000 * off_m:.1f} mm at 2 m; pixel to point to pixel {trip_px:.2f} px')
    assert off_px < 0.05
    assert abs(trip_px - px) < 0.01
    assert abs(off_m - m) < 0.001
EOF
