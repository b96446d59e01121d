#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: the place of a blob after OpenCV's ways to shrink a picture by 2, 3 and 4, against the
# place that its scale gives when pixels keep their areas: (u + 0.5) / scale - 0.5.
# Seen with opencv-python-headless 4.11.0.86: resize with INTER_LINEAR, INTER_CUBIC, INTER_AREA and
# imdecode with IMREAD_REDUCED_* keep the place. resize with INTER_NEAREST, as for depth images,
# and pyrDown move the picture right and down by (scale - 1) / 2 px of the large picture:
# 1 px at 3, 1.5 px at 4. INTER_NEAREST_EXACT is right at 3, half a pixel to the left at 2 and 4.
# Why it matters: depth shrunk with INTER_NEAREST no longer lies on colour shrunk with
# INTER_AREA, and after pyrDown the principal point is c / 2, after resize (c + 0.5) / 2 - 0.5.
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
height, width, place = 240, 360, np.array([181.3, 118.6])
y, x = np.mgrid[:height, :width]
blob = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 18.0**2))
image = (200 * blob).round().astype(np.uint8)
files = {kind: cv2.imencode(f'.{kind}', image)[1] for kind in ('png', 'jpg')}


def moved(small, scale):
    """(x, y) by which the picture was moved, px of the large one."""
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    weight = small / small.sum(dtype=float)
    found = np.array([(weight * x).sum(), (weight * y).sum()])
    return scale * (found + 0.5) - 0.5 - place


def resized(name, scale):
    return cv2.resize(image, (width // scale, height // scale), interpolation=getattr(cv2, name))


def halved(times):
    small = image
    for _ in range(times):
        small = cv2.pyrDown(small)
    return small


for scale in 2, 3, 4:
    even = scale % 2 == 0
    kept = 'INTER_LINEAR', 'INTER_CUBIC', 'INTER_AREA'
    ways = {name: (resized(name, scale), 0.0) for name in kept}
    ways['INTER_NEAREST'] = resized('INTER_NEAREST', scale), (scale - 1) / 2
    ways['INTER_NEAREST_EXACT'] = resized('INTER_NEAREST_EXACT', scale), -0.5 * even
    if even:
        ways['pyrDown'] = halved(scale // 2), (scale - 1) / 2
        flag = getattr(cv2, f'IMREAD_REDUCED_GRAYSCALE_{scale}')
        for kind, data in files.items():
            ways[f'REDUCED, {kind}'] = cv2.imdecode(data, flag), 0.0
    for name, (small, expected) in ways.items():
        found = moved(small, scale)
        print(f'by {scale}, {name}: moved by {found.round(2)} px')
        assert np.abs(found - expected).max() < 0.05
EOF
