# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fit face_pose_ros/weights/semantic_head.safetensors: ears and skull follow from the face.

    python lab/tools/fit_semantic_head.py --data CROPS [CROPS ...]

CROPS are folders of rendered heads (`face_pose_lab.training.render crops`), which know the
semantic keypoints of each person in 3-D. The shape of a person's face, in the coefficients of the
packaged face model, is fitted to the keypoints of the face; then those of ears and skull are
regressed on the coefficients, by least squares over all heads and their mirror images. So one
shape explains Face Mesh's points and the semantic keypoints.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from face_pose_lab.training.batches import CropSource  # noqa: E402

from face_pose_ros.keypoints.semantic import FACE_MESH_INDEX, IS_FACE, MIRROR  # noqa: E402
from face_pose_ros.pose.face_model import FaceModel, deformable_face  # noqa: E402

Array = NDArray[np.float64]

# What a head's surface differs from the face model by: trusts its modes no further than that.
SURFACE_SIGMA_M = 0.0015
ITERATIONS = 3


def heads_of(folders: list[str]) -> Array:
    """(N, 86, 3) m of all heads and their mirror images."""
    source = CropSource(folders)
    xyz = source.batch(np.arange(len(source))).xyz_head.numpy().astype(np.float64)
    xyz = xyz[np.isfinite(xyz).all((1, 2))]
    return np.concatenate([xyz, xyz[:, MIRROR] * [1, -1, 1]])


def face_shapes(xyz_face: Array, face: FaceModel) -> tuple[Array, Array]:
    """Relative sizes (N,) and coefficients (N, M) of faces (N, K, 3), least squares with prior."""
    modes = face.modes.reshape(len(face.modes), -1)
    normal = modes @ modes.T + SURFACE_SIGMA_M**2 * np.eye(len(modes))
    size = np.ones(len(xyz_face))
    for _ in range(ITERATIONS):
        excess = (xyz_face / size[:, None, None] - face.xyz_head).reshape(len(xyz_face), -1)
        c = np.linalg.solve(normal, modes @ excess.T).T
        fitted = face.xyz_head + np.tensordot(c, face.modes, 1)
        size = (fitted * xyz_face).sum((1, 2)) / (fitted**2).sum((1, 2))
    return size, c


def main() -> None:
    """Fit, print the figures, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', nargs='+', required=True, help='folders of rendered crops')
    weights = REPOSITORY / 'face_pose_ros' / 'weights'
    parser.add_argument('--out', type=Path, default=weights / 'semantic_head.safetensors')
    options = parser.parse_args()

    xyz = heads_of(options.data)
    face = deformable_face()
    index = FACE_MESH_INDEX[IS_FACE]
    points = FaceModel(
        face.xyz_head[index],
        face.modes[:, index],
        face.mode_names,
        face.size_per_m,
        face.size_sigma_given_pupils,
        face.normals[index],
        face.triangles,
    )
    size, c = face_shapes(xyz[:, IS_FACE], points)
    scaled = xyz / size[:, None, None]
    misfit = scaled[:, IS_FACE] - points.xyz_head - np.tensordot(c, points.modes, 1)
    design = np.concatenate([np.ones_like(c[:, :1]), c], 1)
    outer = scaled[:, ~IS_FACE]
    flat = outer.reshape(len(outer), -1)
    solution = np.linalg.lstsq(design, flat, rcond=None)[0]
    rest = flat - design @ solution
    about_mean = outer - outer.mean(0)

    def rms_mm(values: Array) -> float:
        return 1e3 * float(np.sqrt((values**2).mean()))

    print(f'{len(xyz) // 2} heads; rms of a coordinate: face {rms_mm(misfit):.2f} mm;')
    print(f'ears and skull {rms_mm(about_mean):.2f} mm about the mean, {rms_mm(rest):.2f} mm left')
    xyz_outer, *modes_outer = solution.reshape(len(solution), -1, 3).astype(np.float32)
    tensors = {
        'xyz_head': xyz_outer,
        'modes': np.stack(modes_outer),
        'face_mesh_index': FACE_MESH_INDEX.astype(np.int32),
    }
    safetensors.numpy.save_file(tensors, options.out)
    print(f'{options.out}: sha256 {hashlib.sha256(options.out.read_bytes()).hexdigest()}')


if __name__ == '__main__':
    main()
