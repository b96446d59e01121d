# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MakeHuman's formats, on files as small as they get."""

import gzip

import numpy as np
from face_pose_lab.training.heads.makehuman_files import read_obj, read_proxy, read_target

OBJ = """# a square in two groups
v 0 0 0
v 2 0 0
v 2 3 0
v 0 3 1
vt 0 0
vt 1 0
vt 1 1
g body
f 1/1 2/2 3/3 4/1
g helper
f 1 2 3
"""
MHCLO = """name thing
obj_file thing.obj
x_scale 0 1 4.0
y_scale 0 2 1.5
verts 0
2
0 1 2 0.5 0.25 0.25 1.0 0.1 7.0
3
1
delete_verts
0 1
"""


def test_polygons_become_fans(tmp_path):
    (tmp_path / 'a.obj').write_text(OBJ)
    mesh = read_obj(tmp_path / 'a.obj')
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    np.testing.assert_array_equal(mesh.triangles_uv[:2], [[0, 1, 2], [0, 2, 0]])
    assert mesh.group.tolist() == ['body', 'body', 'helper']
    assert mesh.xyz[3].tolist() == [0, 3, 1]


def test_targets_are_sparse(tmp_path):
    text = '# comment\n2 0.1 -0.2 .3\n0 1 2 3\n'
    (tmp_path / 'a.target').write_text(text)
    (tmp_path / 'b.target.gz').write_bytes(gzip.compress(text.encode()))
    for name in ('a.target', 'b.target.gz'):
        offsets = read_target(tmp_path / name, 4)
        np.testing.assert_allclose(offsets, [[1, 2, 3], [0, 0, 0], [0.1, -0.2, 0.3], [0, 0, 0]])


def test_a_proxy_follows_the_body(tmp_path):
    (tmp_path / 'thing.obj').write_text(OBJ)
    (tmp_path / 'thing.mhclo').write_text(MHCLO)
    proxy = read_proxy(tmp_path / 'thing.mhclo')
    body = read_obj(tmp_path / 'thing.obj').xyz
    fitted = proxy.fit(body)
    np.testing.assert_allclose(fitted[[0, 2, 3]], body[[2, 3, 1]])
    # x: half the length at which offsets count in full; y: twice; z has no measure.
    np.testing.assert_allclose(fitted[1], (1.0 + 1.0 * 0.5, 0.75 + 0.1 * 2, 7.0))
