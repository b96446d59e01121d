#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a network compiled from its file with a cache (CACHE_DIR); then only the weights (.bin)
# are replaced, as a trained-again network is by git pull or rsync, which leave alone the graph
# (.xml) that has not changed.
# Seen with openvino 2026.4.1: Core.compile_model(path) goes on with the old weights, in new
# processes too, without a message: the cache's entry goes by the path and by size and time of the
# .xml. Core.compile_model(Core.read_model(path)), with the same cache, sees the new weights.
# Why it matters: an update of a network changes nothing on the robots that have run it before,
# and all others have the new one. Read the model first, or empty the cache.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    openvino==2026.4.1 numpy==2.2.6
cd "$folder"
cat >network.py <<'EOF'
import sys
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op


def write(factor, path):
    x = op.parameter([1, 8], np.float32, name='x')
    weights = op.constant(np.full((8, 1), factor, np.float32), name='weights')
    product = op.matmul(x, weights, False, False, name='product')
    ov.save_model(ov.Model([op.result(product, name='y')], [x], 'network'), path)


def answer(model):
    compiled = ov.Core().compile_model(model, 'CPU', {'CACHE_DIR': 'cache'})
    return float(compiled(np.ones((1, 8), np.float32))[0][0, 0])


if sys.argv[1:] == ['write']:
    print('openvino', ov.__version__)
    write(1.0, 'network.xml')
    write(3.0, 'trained_again.xml')
    assert Path('network.xml').read_bytes() == Path('trained_again.xml').read_bytes()
else:
    found = answer('network.xml'), answer(ov.Core().read_model('network.xml'))
    print(f'{sys.argv[1]}: by path {found[0]}, read first {found[1]}')
    assert found == {'weights of 1': (8.0, 8.0), 'weights of 3': (8.0, 24.0)}[sys.argv[1]]
EOF
export PYTHONPATH='' CI=1 # CI: openvino's usage report stays off
venv/bin/python network.py write
venv/bin/python network.py 'weights of 1'
cp trained_again.bin network.bin
venv/bin/python network.py 'weights of 3'
