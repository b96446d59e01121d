#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: transforms3d (under tf_transformations) and scipy are given a matrix that is no rotation: a
# mirror, as a left-handed frame or a wrong sign in one axis gives.
# Seen with transforms3d 0.4.2 and scipy 1.15.3: transforms3d.quaternions.mat2quat returns a unit
# quaternion of another rotation (diag(1, 1, -1) becomes half a turn about y). scipy's
# Rotation.from_matrix refuses it ("Non-positive determinant").
# Why it matters: TF is sent with a plausible, wrong orientation without a message. Check the
# determinant before a matrix becomes a quaternion.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    transforms3d==0.4.2 scipy==1.15.3 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version
import numpy as np
from scipy.spatial.transform import Rotation
from transforms3d.quaternions import mat2quat, quat2mat

print(*(f'{name} {version(name)}' for name in ('transforms3d', 'scipy', 'numpy')))
turn = Rotation.from_euler('xyz', [0.3, -0.2, 0.5]).as_matrix()
assert np.allclose(quat2mat(mat2quat(turn)), turn)
for name, mirror in {
    'z reversed': np.diag([1.0, 1, -1]),
    'a turn with z reversed': turn @ np.diag([1.0, 1, -1]),
}.items():
    q = mat2quat(mirror)
    print(f'{name}: mat2quat says (w, x, y, z) = {q.round(3)}, of length '
          f'{np.linalg.norm(q):.3f}; off by {np.abs(quat2mat(q) - mirror).max():.2f}')
    assert abs(np.linalg.norm(q) - 1) < 1e-9
    assert np.abs(quat2mat(q) - mirror).max() > 0.5
    try:
        Rotation.from_matrix(mirror)
    except ValueError as error:
        print('  scipy:', str(error).split(' in ')[0])
    else:
        raise SystemExit('scipy takes it now')
EOF
