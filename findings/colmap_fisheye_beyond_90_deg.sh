#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: pixels of a fisheye beyond 90 deg off the axis turned into directions by COLMAP's models.
# Seen with pycolmap 4.2.1: Camera.cam_from_img is right up to 90 deg; beyond, it returns the
# distorted coordinate: 88.8 deg is followed by 58 deg. Camera.cam_ray_from_img, which is there
# for rays that point backwards, does the same. img_from_cam says None for such directions. All
# fisheye models do so: OPENCV_FISHEYE, SIMPLE_RADIAL_FISHEYE, THIN_PRISM_FISHEYE.
# Why it matters: whoever stands beside a 200 deg camera is put in front of it, without a mark.
# Drop pixels whose direction does not project back.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    pycolmap==4.2.1 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
import numpy as np
import pycolmap

print('pycolmap', pycolmap.__version__, 'numpy', np.__version__)
f, cx, cy = 200.0, 420.0, 240.0
models = {
    'OPENCV_FISHEYE': [f, f, cx, cy, 0, 0, 0, 0],
    'SIMPLE_RADIAL_FISHEYE': [f, cx, cy, 0],
    'THIN_PRISM_FISHEYE': [f, f, cx, cy, *[0] * 8],
}
for model, params in models.items():
    camera = pycolmap.Camera(model=model, width=840, height=480, params=params, camera_id=1)
    for u in 620.0, 730.0, 740.0, 800.0:
        truth = np.degrees((u - cx) / f)  # equidistant: u - cx = f theta
        x, _ = camera.cam_from_img(np.array([u, cy]))
        ray = camera.cam_ray_from_img(np.array([u, cy]))
        found = np.degrees([np.arctan(x), np.arctan2(ray[0], ray[2])])
        print(f'{model}: u = {u:.0f} px is {truth:.1f} deg off the axis, cam_from_img says '
              f'{found[0]:.1f}, cam_ray_from_img {found[1]:.1f}')
        expected = truth if truth < 90 else np.degrees(np.arctan((u - cx) / f))
        assert np.abs(found - expected).max() < 1e-6
    beyond = np.radians(95.0)
    assert camera.img_from_cam(np.array([np.sin(beyond), 0, np.cos(beyond)])) is None
EOF
