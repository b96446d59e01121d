#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: mean and standard deviation of a depth image (float32, millimetres) in numpy and in a
# function compiled by numba.
# Seen with numba 0.66.0 and numpy 2.2.6: of a flat wall at 1 m with 0.5 mm of noise, 640 x 480 px,
# numpy says 0.5 mm, numba more than twice as much. numba adds in float32 one pixel after the
# other, so the mean is off by a millimetre, and std() takes the deviations from that mean. numpy
# adds in pairs. A mean over 1280 x 720 px of 1.3 m is off by a millimetre too.
# Why it matters: a function that is right without @njit is wrong with it, and the noise of a
# sensor, a threshold on it or a covariance from it with it. Use x.astype(np.float64), or
# fastmath, which lets the sum be split.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    numba==0.66.0 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
import numba
import numpy as np

print('numba', numba.__version__, 'numpy', np.__version__)


def spread(z):
    return z.std()


def mean(z):
    return z.mean()


noise = np.random.default_rng(0).normal(0, 0.5, (480, 640))
wall_mm = (1000 + noise).astype(np.float32)
in_double = wall_mm.astype(np.float64)
spreads_mm = {
    'numpy': spread(wall_mm),
    'numba': numba.njit(spread)(wall_mm),
    'numba in float64': numba.njit(spread)(in_double),
    'numba with fastmath': numba.njit(fastmath=True)(spread)(wall_mm),
}
for name, found in spreads_mm.items():
    print(f'{name}: spread of a wall with 0.5 mm of noise {found:.3f} mm')
    assert found > 1 if name == 'numba' else abs(found - 0.5) < 0.01
flat_m = np.full((720, 1280), 1.3, np.float32)
found = mean(flat_m), numba.njit(mean)(flat_m)
print(f'mean of 1.3 m [m]: numpy {found[0]:.5f}, numba {found[1]:.5f}')
assert abs(found[0] - 1.3) < 1e-5 and abs(found[1] - 1.3) > 1e-3
EOF
