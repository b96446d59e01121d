#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: numpy-quaternion's rotation vector of a small rotation that is given as a matrix, such as the
# difference of two poses.
# Seen with numpy-quaternion 2024.0.13 (with scipy 1.15.3): from_rotation_matrix returns quaternions
# of either sign, and as_rotation_vector does not care for the sign: of half of all rotations by one
# degree the vector is one of 359 degrees, about the opposite axis. scipy's Rotation.as_rotvec gives
# angles up to 180 degrees. Without scipy, or with nonorthogonal=False, these have w > 0.
# Why it matters: angular velocities, residuals and errors jump to a full turn. Negate quaternions
# with w < 0 first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    numpy-quaternion==2024.0.13 scipy==1.15.3 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
import quaternion
from scipy.spatial.transform import Rotation

print(*(f'{name} {version(name)}' for name in ('numpy-quaternion', 'scipy', 'numpy')))
axes = np.random.default_rng(0).normal(size=(1000, 3))
axes /= np.linalg.norm(axes, axis=1, keepdims=True)
for angle_deg in (1.0, 30.0):
    R = Rotation.from_rotvec(axes * np.radians(angle_deg)).as_matrix()
    q = quaternion.from_rotation_matrix(R)
    assert np.allclose(quaternion.as_rotation_matrix(q), R)
    found_deg = np.degrees(np.linalg.norm(quaternion.as_rotation_vector(q), axis=1))
    by_scipy_deg = np.degrees(np.linalg.norm(Rotation.from_matrix(R).as_rotvec(), axis=1))
    long = found_deg > 180
    print(f'1000 rotations by {angle_deg:g} deg: {long.sum()} have a rotation vector of '
          f'{found_deg[long].mean():.1f} deg; scipy {by_scipy_deg.min():.1f} to '
          f'{by_scipy_deg.max():.1f} deg')
    assert np.allclose(found_deg[long], 360 - angle_deg)
    assert np.allclose(found_deg[~long], angle_deg)
    assert 200 < long.sum() < 800
    assert np.allclose(by_scipy_deg, angle_deg)
    other = quaternion.from_rotation_matrix(R, nonorthogonal=False)
    assert (quaternion.as_float_array(other)[:, 0] > 0).all()
EOF
