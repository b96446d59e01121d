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
import safetensors.torch
import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from face_pose_lab.training.batches import CropSource  # noqa: E402

from face_pose_ros.keypoints.semantic import FACE_MESH_INDEX, IS_FACE, MIRROR  # noqa: E402
from face_pose_ros.pose.face_model import FaceModel, deformable_face  # noqa: E402

# What a head's surface differs from the face model by: trusts its modes no further than that.
SURFACE_SIGMA_M = 0.0015
ITERATIONS = 3


def heads_of(folders: list[str]) -> Tensor:
    """(N, 86, 3) m of all heads and their mirror images."""
    source = CropSource(folders)
    xyz = source.batch(np.arange(len(source))).xyz_head
    xyz = xyz[xyz.isfinite().all(-1).all(-1)]
    return torch.cat([xyz, xyz[:, MIRROR] * xyz.new_tensor([1, -1, 1])])


def face_shapes(xyz_face: Tensor, face: FaceModel) -> tuple[Tensor, Tensor]:
    """Relative sizes (N,) and coefficients (N, M) of faces (N, K, 3), least squares with prior."""
    modes = face.modes.flatten(1)
    normal = modes @ modes.T + SURFACE_SIGMA_M**2 * torch.eye(len(modes)).to(modes)
    size = torch.ones(len(xyz_face)).to(xyz_face)
    for _ in range(ITERATIONS):
        excess = (xyz_face / size[:, None, None] - face.xyz_head).flatten(1)
        c = torch.linalg.solve(normal, modes @ excess.T).T
        fitted = face.xyz_head + torch.einsum('nm,mkx->nkx', c, face.modes)
        size = (fitted * xyz_face).sum((1, 2)) / fitted.square().sum((1, 2))
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
    index = torch.from_numpy(FACE_MESH_INDEX[IS_FACE])
    points = FaceModel(
        face.xyz_head[index],
        face.modes[:, index],
        face.mode_names,
        face.size_per_m,
        face.size_sigma_given_pupils,
        face.normals[index],
        face.triangles,
    )
    is_face = torch.from_numpy(IS_FACE)
    size, c = face_shapes(xyz[:, is_face], points)
    scaled = xyz / size[:, None, None]
    misfit = scaled[:, is_face] - points.xyz_head - torch.einsum('nm,mkx->nkx', c, points.modes)
    design = torch.cat([torch.ones_like(c[:, :1]), c], 1)
    outer = scaled[:, ~is_face]
    solution = torch.linalg.lstsq(design, outer.flatten(1)).solution
    rest = outer.flatten(1) - design @ solution
    about_mean = outer - outer.mean(0)

    def rms_mm(values: Tensor) -> float:
        return 1e3 * float(values.square().mean().sqrt())

    print(f'{len(xyz) // 2} heads; rms of a coordinate: face {rms_mm(misfit):.2f} mm;')
    print(f'ears and skull {rms_mm(about_mean):.2f} mm about the mean, {rms_mm(rest):.2f} mm left')
    xyz_outer, *modes_outer = solution.view(len(solution), -1, 3)
    tensors = {'xyz_head': xyz_outer, 'modes': torch.stack(modes_outer)}
    tensors = {name: value.float().contiguous() for name, value in tensors.items()}
    tensors['face_mesh_index'] = torch.from_numpy(FACE_MESH_INDEX).int()
    safetensors.torch.save_file(tensors, options.out)
    print(f'{options.out}: sha256 {hashlib.sha256(options.out.read_bytes()).hexdigest()}')


if __name__ == '__main__':
    main()
