#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: the "reprojection error" that OpenCV's functions return for the same corners, with noise
# of 0.5 px in u and in v.
# Seen with opencv-python-headless 4.11.0.86: calibrateCamera, stereoCalibrate and
# fisheye.calibrate return the root mean square of the distance of a corner (0.7 px),
# solvePnPGeneric of one coordinate (0.5 px), smaller by the square root of two.
# Why it matters: a limit that was found with one is wrong by 1.4 with the other, and a covariance
# sigma^2 (J^T J)^-1 that takes calibrateCamera's value for the noise of a coordinate is twice as
# large as it should be.
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
rng = np.random.default_rng(0)
K = np.array([[800.0, 0, 639.5], [0, 805, 359.5], [0, 0, 1]])
size, no_distortion, noise_px = (1280, 720), np.zeros(5), 0.5
grid = np.stack(np.meshgrid(np.arange(9), np.arange(6), indexing='ij'), -1).reshape(-1, 2)
board = np.c_[0.03 * (grid - grid.mean(0)), np.zeros(len(grid))].astype(np.float32)
views, fisheye_views = [], []
for _ in range(100):
    r, t = rng.uniform(-0.5, 0.5, 3), np.array([*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.5, 0.8)])
    noise = rng.normal(0, noise_px, (len(board), 1, 2))
    uv = cv2.projectPoints(board, r, t, K, no_distortion)[0]
    views.append((uv + noise).astype(np.float32))
    points = board.astype(np.float64)[None]
    uv, _ = cv2.fisheye.projectPoints(points, r, t, K, np.zeros(4))
    fisheye_views.append(uv + noise.reshape(1, -1, 2))
boards = [board] * len(views)
double = [board.astype(np.float64)[None]] * len(views)
flags = cv2.fisheye.CALIB_RECOMPUTE_EXTRINSIC | cv2.fisheye.CALIB_FIX_SKEW

errors = {
    'calibrateCamera': cv2.calibrateCamera(boards, views, size, None, None)[0],
    'stereoCalibrate': cv2.stereoCalibrate(
        boards, views, views, K, no_distortion, K, no_distortion, size
    )[0],
    'fisheye.calibrate': cv2.fisheye.calibrate(
        double, fisheye_views, size, np.eye(3), np.zeros(4), flags=flags
    )[0],
    'solvePnPGeneric': np.sqrt(np.mean([
        cv2.solvePnPGeneric(board, uv, K, no_distortion, flags=cv2.SOLVEPNP_ITERATIVE)[3] ** 2
        for uv in views
    ])),
}
for name, error in errors.items():
    per = 'coordinate' if name == 'solvePnPGeneric' else 'corner'
    print(f'{name}: {error:.3f} px, of one {per}')
    assert abs(error / noise_px - (1 if per == 'coordinate' else 2**0.5)) < 0.06
EOF
