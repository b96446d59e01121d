#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: ros2_numpy's numpify() and msgify() of geometry_msgs Pose and Transform, to and from 4x4
# matrices.
# Seen with ros2-numpy 0.0.5 and transformations 2025.1.1, whose quaternions begin with w: the
# orientation of messages is given to it with w at the end. numpify(Pose) and numpify(Transform) are
# other rotations (the identity becomes half a turn about z), msgify(Pose) writes w into x. Only
# msgify(Transform) is right. A Pose through msgify and numpify comes back as it was, so that a test
# of the round trip passes.
# Why it matters: heads and cameras are turned by up to 180 degrees for every other node.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ros-geometry-msgs==5.5.1 \
    ros-sensor-msgs==5.5.1 ros-nav-msgs==5.5.1 ros-rclpy==9.1.2 ros-rmw-fastrtps-cpp==9.3.3 \
    transformations==2025.1.1 pybase64==1.4.2 numpy==1.26.4 scipy==1.15.3
# It asks for numpy 1.24.2, which newer Pythons do not have.
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps ros2-numpy==0.0.5
cd "$folder"
cat >poses.py <<'EOF'
from importlib.metadata import version

import numpy as np
from geometry_msgs.msg import Pose, Quaternion, Transform
from ros2_numpy import msgify, numpify
from scipy.spatial.transform import Rotation

print(*(f'{name} {version(name)}' for name in ('ros2-numpy', 'transformations', 'numpy')))
FIELD = {Pose: 'orientation', Transform: 'rotation'}


def rotation_of(message):
    q = getattr(message, FIELD[type(message)])
    return Rotation.from_quat([q.x, q.y, q.z, q.w])


def error_deg(a, b):
    return np.degrees((a.inv() * b).magnitude())


for name, R in {
    'identity': Rotation.identity(),
    'turn of 25 deg about z': Rotation.from_euler('z', 25, degrees=True),
    'some turn': Rotation.from_rotvec([0.3, -0.4, 0.9]),
}.items():
    T = np.eye(4)
    T[:3, :3] = R.as_matrix()
    x, y, z, w = R.as_quat()
    for kind, field in FIELD.items():
        given = kind(**{field: Quaternion(x=x, y=y, z=z, w=w)})
        read = Rotation.from_matrix(numpify(given)[:3, :3])
        written = msgify(kind, T)
        print(f'{name}, {kind.__name__}: numpify is off by {error_deg(R, read):.0f} deg, '
              f'msgify by {error_deg(R, rotation_of(written)):.0f} deg')
        assert error_deg(R, read) > 20
        assert (error_deg(R, rotation_of(written)) > 20) == (kind is Pose)
    assert np.allclose(numpify(msgify(Pose, T)), T)
print('identity as a Pose:', msgify(Pose, np.eye(4)).orientation)
assert msgify(Pose, np.eye(4)).orientation.x == 1
assert msgify(Pose, np.eye(4)).orientation.w == 0
EOF
PYTHONPATH='' venv/bin/python poses.py
