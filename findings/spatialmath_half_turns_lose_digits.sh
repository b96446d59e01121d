#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: angle and axis of almost half a turn with spatialmath-python: a camera that looks back, or a
# head that faces it, with the rpy of a URDF that was written with a few decimals.
# Seen with spatialmath-python 1.1.18: SO3.angvec() and SO3.log() of rpy="3.141593 0 0.5" are off by
# 0.1 deg, of other turns within 1e-7 rad of pi by degrees: the axis is a difference of almost equal
# numbers divided by the sine of the angle. UnitQuaternion of the same matrix, and scipy, are right
# to 1e-12 deg.
# Why it matters: errors of orientation, controllers and fits that use the logarithm stop or jump at
# a pose that is common. Go through UnitQuaternion.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    spatialmath-python==1.1.18 scipy==1.15.3 numpy==2.2.6
cd "$folder"
export MPLBACKEND=agg
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
from scipy.spatial.transform import Rotation
from spatialmath import SO3, UnitQuaternion

print(*(f'{name} {version(name)}' for name in ('spatialmath-python', 'scipy', 'numpy')))


def errors_deg(R):
    """Of a matrix's angle and axis, logarithm, quaternion, and scipy's rotation vector."""
    angle, axis = SO3(R).angvec()
    found = (
        SO3.AngVec(angle, axis).R,
        SO3.Exp(SO3(R).log(twist=True)).R,
        UnitQuaternion(SO3(R)).R,
        Rotation.from_rotvec(Rotation.from_matrix(R).as_rotvec()).as_matrix(),
    )
    return np.degrees([Rotation.from_matrix(R.T @ R_found).magnitude() for R_found in found])


for text in ('3.0 0 0.5', '3.1416 0 0.5', '3.14159 0 0.5', '3.141593 0 0', '3.141593 0 0.5'):
    found = errors_deg(Rotation.from_euler('xyz', np.array(text.split(), float)).as_matrix())
    print(f'rpy="{text}": angvec off by {found[0]:.1e} deg, log by {found[1]:.1e}, UnitQuaternion '
          f'by {found[2]:.1e}, scipy by {found[3]:.1e}')
    if text.startswith('3.141593'):
        assert 0.02 < found[0] < 1
        assert 0.02 < found[1] < 1
    assert (found[2:] < 1e-10).all()
axes = np.random.default_rng(0).normal(size=(200, 3))
turns = axes / np.linalg.norm(axes, axis=1, keepdims=True) * (np.pi - 1e-7)
worst = np.max([errors_deg(Rotation.from_rotvec(turn).as_matrix()) for turn in turns], axis=0)
print(f'200 turns by pi - 1e-7 rad: angvec off by up to {worst[0]:.1f} deg, log by {worst[1]:.1f}')
assert worst[0] > 1
assert (worst[2:] < 1e-10).all()
EOF
