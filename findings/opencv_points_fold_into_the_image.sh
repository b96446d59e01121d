#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: cv2.projectPoints and cv2.undistortPoints for a common lens (k1 = -0.3, the rest zero)
# beyond the angle where the polynomial stops growing (46.5 deg here).
# Seen with opencv-python-headless 4.11.0.86: a point 61 deg off the axis, which the lens can't
# see, is projected well inside the picture (x = 350 of 640) without a mark; its pixel is
# undistorted to 2.9 deg. Near the limit undistortPoints is wrong by itself: after its default
# steps a ray at x = 0.9 comes back as 0.886, 8 px off.
# Why it matters: landmarks behind the edge of the view match something in the middle of the
# picture, and rays near the edge are off by pixels. Compare angles with the polynomial's limit.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    opencv-python-headless==4.11.0.86 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
import cv2
import numpy as np

print('opencv-python-headless', cv2.__version__, 'numpy', np.__version__)
K = np.array([[600.0, 0, 320], [0, 605, 240], [0, 0, 1]])
k1 = -0.3
dist = np.array([k1, 0, 0, 0, 0])
limit = np.sqrt(-1 / (3 * k1))  # of r + k1 r^3
print(f'the polynomial grows up to x/z = {limit:.3f}, {np.rad2deg(np.arctan(limit)):.1f} deg')


def there_and_back(x):
    point = np.array([[x, 0.0, 1.0]])
    uv = cv2.projectPoints(point, np.zeros(3), np.zeros(3), K, dist)[0]
    back = cv2.undistortPoints(uv.reshape(1, 1, 2), K, dist)
    print(f'x/z = {x}: pixel {uv.ravel()[0]:.1f}, undistorted x/z = {back.ravel()[0]:.4f}')
    return uv.ravel()[0], back.ravel()[0]


assert abs(there_and_back(0.5)[1] - 0.5) < 1e-4
pixels_off = 600 * (0.9 - there_and_back(0.9)[1])
print(f'  off by {pixels_off:.1f} px of the ideal picture')
assert 7 < pixels_off < 10
pixel, back = there_and_back(1.8)
assert 340 < pixel < 360 and 0.04 < back < 0.06
EOF
