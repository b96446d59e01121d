#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a transposed array, as a kernel is after its axes went from one framework's order to
# another's, saved with safetensors.numpy and loaded again.
# Seen with safetensors 0.8.0: the shape is right and the values are in another order, without an
# error: the memory is written as it lies, whatever the strides. 0.7.0 writes the array as it is.
# The documentation wants contiguous arrays and nothing checks it; safetensors.torch does.
# Why it matters: weights that were right yesterday are scrambled after an update of the library,
# and the sum, mean and shape of each tensor stay the same. Use numpy.ascontiguousarray.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >save.py <<'EOF'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {
    'as made': matrix,
    'transposed': matrix.T,
    'in order F': np.asfortranarray(matrix),
    'transposed, made contiguous': np.ascontiguousarray(matrix.T),
}
wrong = []
for name, array in arrays.items():
    save_file({'x': array}, 'x.safetensors')
    found = load_file('x.safetensors')['x']
    assert found.shape == array.shape
    print(f'safetensors {safetensors.__version__}, {name}: {array.tolist()} -> {found.tolist()}')
    if (found != array).any():
        wrong.append(name)
assert wrong == sys.argv[1:]
EOF
for version in 0.7.0 0.8.0; do
    python3 -m venv --clear venv
    venv/bin/pip install -q --disable-pip-version-check "safetensors==$version" numpy==2.2.6
    if [ $version = 0.7.0 ]; then
        PYTHONPATH='' venv/bin/python save.py
    else
        PYTHONPATH='' venv/bin/python save.py 'transposed' 'in order F'
    fi
done
