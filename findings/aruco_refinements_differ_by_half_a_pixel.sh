#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: corners of one AprilTag in one picture by three detectors. The tag's dark square covers
# columns 150 to 349, so its middle is at 249.5 where 0 is the middle of the first pixel (as in
# cameras' K) and at 250.0 where 0 is that pixel's edge.
# Seen with opencv-python-headless 4.11.0.86 and pupil-apriltags 1.0.4: cv2.aruco with
# CORNER_REFINE_SUBPIX says 249.5, cv2.aruco with CORNER_REFINE_APRILTAG and pupil-apriltags say
# 250.0. One option of one function moves the origin of the picture by half a pixel.
# Why it matters: extrinsics between cameras calibrated with different detectors disagree: at
# f = 600 px half a pixel is 0.05 deg, 0.8 mm at one metre. Subtract 0.5 from AprilTag's corners.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    opencv-python-headless==4.11.0.86 numpy==2.2.6 pupil-apriltags==1.0.4.post11
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version
import cv2
import numpy as np
import pupil_apriltags

names = 'opencv-python-headless', 'pupil-apriltags', 'numpy'
print(*(f'{name} {version(name)}' for name in names))
tags = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
image = np.full((480, 640), 255, np.uint8)
image[100:300, 150:350] = cv2.aruco.generateImageMarker(tags, 7, 200)
image = cv2.GaussianBlur(image, (0, 0), 1.0)
truth = np.array([249.5, 199.5])

middles = {}
for name in 'CORNER_REFINE_SUBPIX', 'CORNER_REFINE_APRILTAG':
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = getattr(cv2.aruco, name)
    (corners,), ids, _ = cv2.aruco.ArucoDetector(tags, parameters).detectMarkers(image)
    assert ids.ravel().tolist() == [7]
    middles[name] = corners[0].mean(0)
(tag,) = pupil_apriltags.Detector(families='tag36h11').detect(image)
assert tag.tag_id == 7
middles['pupil_apriltags'] = tag.center
for name, middle in middles.items():
    print(f'{name}: middle of the tag {middle.round(3)}, off by {(middle - truth).round(3)}')
    offset = 0.0 if name == 'CORNER_REFINE_SUBPIX' else 0.5
    assert np.abs(middle - truth - offset).max() < 0.05
EOF
