#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a head mesh as .obj with texture coordinates and one vertex in no face (a joint, as
# MakeHuman has them), loaded with trimesh to pick landmarks by their vertex numbers.
# Seen with trimesh 5.2.0: load_mesh() gives other vertices: those on seams of the texture twice,
# those in no face left out, so all numbers after them move. process=False changes nothing about
# it; maintain_order=True alone still leaves out the joint. Both together give the file's
# vertices. Without texture coordinates the joint is left out all the same.
# Why it matters: landmark lists of head models (FLAME, ICT-FaceKit, MakeHuman) are vertex
# numbers: keypoints lie beside eyes and nose, on a mesh that looks right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    trimesh==5.2.0 numpy==2.2.6 pillow==12.0.0
cd "$folder"
PYTHONPATH='' venv/bin/python -W ignore - <<'EOF'
from importlib.metadata import version

import numpy as np
import trimesh

print('trimesh', version('trimesh'), 'numpy', version('numpy'))
xyz = np.array([[0, 0, 0], [9, 9, 9], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0], [2, 1, 0]])
uv = [(0, 0), (0.5, 0), (0.5, 1), (0, 1), (0.6, 0), (0.6, 1), (1, 0), (1, 1)]
# Two squares side by side; the joint, vertex 1, belongs to none; their common edge is a seam.
corners = [(0, 0), (2, 1), (3, 2), (4, 3)], [(2, 4), (5, 6), (6, 7), (3, 5)]
tip = 5


def write(path, textured):
    lines = [f'v {x} {y} {z}' for x, y, z in xyz]
    lines += [f'vt {u} {v}' for u, v in uv] if textured else []
    for face in corners:
        names = [f'{v + 1}/{t + 1}' if textured else f'{v + 1}' for v, t in face]
        lines.append('f ' + ' '.join(names))
    with open(path, 'w') as file:
        file.write('\n'.join(lines) + '\n')


write('textured.obj', textured=True)
write('plain.obj', textured=False)
whole, order = {'process': False}, {'maintain_order': True}
cases = {
    ('textured.obj', 'as it is'): ({}, 8, False),
    ('textured.obj', 'process=False'): (whole, 8, False),
    ('textured.obj', 'maintain_order=True'): (order, 6, False),
    ('textured.obj', 'both'): (whole | order, 7, True),
    ('plain.obj', 'as it is'): ({}, 6, False),
}
for (path, name), (options, count, same) in cases.items():
    found = trimesh.load_mesh(path, **options).vertices
    print(f'{path}, {name}: {len(found)} vertices for {len(xyz)}, number {tip} at '
          f'{found[tip].tolist()} for {xyz[tip].tolist()}')
    assert len(found) == count
    assert (found.shape == xyz.shape and bool((found == xyz).all())) == same
    assert (found[tip] == xyz[tip]).all() == same
EOF
