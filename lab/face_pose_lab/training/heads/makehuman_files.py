# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads MakeHuman's file formats: meshes (.obj), shape targets (.target), fitted proxies (.mhclo).

Units are decimetres; x to the person's left, y up, z out of the face.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Obj:
    """A triangulated Wavefront mesh."""

    xyz: Floats  # (V, 3)
    uv: Floats  # (U, 2), v upwards
    triangles: Ids  # (F, 3) into xyz
    triangles_uv: Ids  # (F, 3) into uv
    group: NDArray[np.str_]  # (F,) name of each triangle's group


def read_obj(path: Path) -> Obj:
    """Read positions, texture coordinates and polygons, the latter split into fans."""
    xyz, uv, corners, groups, group = [], [], [], [], ''
    with open(path, encoding='utf-8', errors='ignore') as file:
        for line in file:
            kind, *rest = line.split() or ['']
            if kind == 'v':
                xyz.append([float(x) for x in rest[:3]])
            elif kind == 'vt':
                uv.append([float(x) for x in rest[:2]])
            elif kind == 'g':
                group = rest[0] if rest else ''
            elif kind == 'f':
                # A corner without a texture coordinate has the first one.
                polygon = [tuple(int(i or 1) - 1 for i in [*c.split('/'), ''][:2]) for c in rest]
                for b, c in pairwise(polygon[1:]):
                    corners.append((polygon[0], b, c))
                    groups.append(group)
    index = np.array(corners, np.int64)
    return Obj(
        np.array(xyz, np.float32),
        np.array(uv, np.float32),
        index[..., 0],
        index[..., 1],
        np.array(groups),
    )


def read_target(path: Path, vertices: int) -> Floats:
    """Offsets (vertices, 3) of a shape target, plain or gzipped."""
    offsets = np.zeros((vertices, 3), np.float32)
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == '.gz' else content).decode()
    lines = (line for line in text.splitlines() if not line.startswith('#'))
    table = np.array(' '.join(lines).split(), np.float32).reshape(-1, 4)
    offsets[table[:, 0].astype(np.int64)] = table[:, 1:]
    return offsets


@dataclass(frozen=True)
class Proxy:
    """A mesh that follows the body: hair, eyes, clothes."""

    obj: Obj
    vertices: Ids  # (P, 3) of the body
    weights: Floats  # (P, 3) of these
    offsets: Floats  # (P, 3), in units of the body's measures
    # axis -> two vertices of the body and their distance along it where the offsets are lengths
    measures: dict[int, tuple[int, int, float]] = field(default_factory=dict)

    def fit(self, body: Floats) -> Floats:
        """Vertices (P, 3) on a body (V, 3)."""
        size = np.ones(3, np.float32)
        for axis, (a, b, length) in self.measures.items():
            size[axis] = abs(body[a, axis] - body[b, axis]) / length
        return (body[self.vertices] * self.weights[..., None]).sum(1) + self.offsets * size


def read_proxy(path: Path) -> Proxy:
    """Read a .mhclo and the mesh that it names."""
    measures: dict[int, tuple[int, int, float]] = {}
    rows: list[list[float]] = []
    mesh, in_vertices = path.with_suffix('.obj'), False
    with open(path, encoding='utf-8', errors='ignore') as file:
        for line in file:
            kind, *rest = line.split() or ['']
            if kind == 'obj_file':
                mesh = path.parent / rest[0]
            elif kind in ('x_scale', 'y_scale', 'z_scale'):
                measures['xyz'.index(kind[0])] = (int(rest[0]), int(rest[1]), float(rest[2]))
            elif kind == 'verts':
                in_vertices = True
            elif in_vertices and kind.isdigit():
                # One number: the proxy's vertex is the body's.
                row = [float(x) for x in (kind, *rest)]
                rows.append(row if len(row) > 1 else [row[0]] * 3 + [1.0, 0, 0, 0, 0, 0])
            elif kind in ('delete_verts', 'weights'):
                break
    table = np.array(rows)
    return Proxy(
        read_obj(mesh),
        table[:, :3].astype(np.int64),
        table[:, 3:6].astype(np.float32),
        table[:, 6:9].astype(np.float32),
        measures,
    )


def read_bone_weights(path: Path, vertices: int) -> dict[str, Floats]:
    """Name of a bone -> its share (vertices,) in the motion of each vertex."""
    table = json.loads(path.read_text(encoding='utf-8'))['weights']
    bones = {}
    for name, rows in table.items():
        bones[name] = np.zeros(vertices, np.float32)
        if rows:
            index, weight = np.array(rows).T
            bones[name][index.astype(np.int64)] = weight
    return bones
