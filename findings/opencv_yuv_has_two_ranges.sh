#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: the same YUV values through OpenCV's conversions for three planes at full size
# (COLOR_YUV2BGR) and for camera layouts (COLOR_YUV2BGR_YUY2, COLOR_YUV2BGR_NV12).
# Seen with opencv-python-headless 4.11.0.86: YUV2BGR takes Y as full range (16 -> 16, 235 -> 235),
# YUY2 and NV12 take it as video range (16 -> 0, 235 -> 255); the names do not tell. A camera
# that sends full range in these layouts loses what lies below 16 and above 235.
# Why it matters: a network sees another contrast of the same camera depending on the driver's
# layout, and a picture that goes BGR -> YUV -> NV12's way does not come back.
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
expected = {16: (16, 0, 0), 126: (126, 128, 128), 235: (235, 255, 255)}
for luma, grey in expected.items():
    full = np.full((2, 4), luma, np.uint8)
    neutral = np.full((2, 4), 128, np.uint8)
    found = tuple(
        int(cv2.cvtColor(picture, code)[0, 0, 1])
        for picture, code in (
            (np.dstack([full, neutral, neutral]), cv2.COLOR_YUV2BGR),
            (np.dstack([full, neutral]), cv2.COLOR_YUV2BGR_YUY2),
            (np.vstack([full, neutral[:1]]), cv2.COLOR_YUV2BGR_NV12),
        )
    )
    print(f'Y = {luma}: YUV2BGR {found[0]}, YUV2BGR_YUY2 {found[1]}, YUV2BGR_NV12 {found[2]}')
    assert found == grey
EOF
