"""The deformable face: where the keypoints of a head may lie in the head frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from face_pose_ros.weights import load_weights

# Adults' interpupillary distance is 63 +- 3.5 mm: the scale of the mean face, and its mode 'size'.
MEAN_INTERPUPILLARY_M = 0.063
INTERPUPILLARY_SIGMA_M = 0.0035


@dataclass(frozen=True, eq=False)
class FaceModel:
    """Shape S(c) = B0 + sum_i c_i B_i of K keypoints (Pavlakos et al. 2017, eq. 2).

    Head frame (REP-155): origin at the sellion, x out of the face, y to the person's left, z up.
    The coefficients c are in prior standard deviations: each is N(0, 1) over people and faces
    they make. Mode 0, 'size', scales the mean face; 'identity_*' are people of one interpupillary
    distance; all others are expressions.
    """

    xyz_head: Tensor  # (K, 3) float64, m: the mean B0
    modes: Tensor  # (C, K, 3) float64, m per prior standard deviation: the B_i
    mode_names: tuple[str, ...]
    normals: Tensor  # (K, 3) unit, out of the head
    triangles: Tensor  # (T, 3) int64, indices into xyz_head, counter-clockwise from outside
    mirror: Tensor  # (K,) int64, index of each keypoint's partner on the other half of the face

    def points(self, shape: Tensor) -> Tensor:
        """(N, K, 3) points [m] of shapes (N, C)."""
        return self.xyz_head + torch.einsum('nc,ckx->nkx', shape, self.modes)

    def keep_modes(self, *prefixes: str) -> FaceModel:
        """The same face with only those modes whose names start with one of the prefixes."""
        kept = [i for i, name in enumerate(self.mode_names) if name.startswith(prefixes)]
        names = tuple(self.mode_names[i] for i in kept)
        return replace(self, modes=self.modes[kept], mode_names=names)

    def every(self, stride: int) -> FaceModel:
        """The same face with every stride-th keypoint; triangles and mirror are those of all."""
        return replace(
            self,
            xyz_head=self.xyz_head[::stride],
            modes=self.modes[:, ::stride],
            normals=self.normals[::stride],
        )

    @property
    def expression_modes(self) -> tuple[bool, ...]:
        """Which modes change while a person talks."""
        return tuple(not name.startswith(('size', 'identity')) for name in self.mode_names)


def deformable_face(device: torch.device | str = 'cpu') -> FaceModel:
    """The project's own model of Face Mesh's 468 keypoints; see weights/face_model.md."""
    weights = load_weights('face_model')
    expressions = [name for name in sorted(weights) if name.startswith('expression.')]
    identities = [f'identity_{i + 1}' for i in range(len(weights['identity_modes']))]
    xyz_head = weights['xyz_head'].double()
    return _build(
        xyz_head,
        torch.cat(
            [
                _size_mode(xyz_head),
                weights['identity_modes'].double(),
                *[weights[name].double()[None] for name in expressions],
            ]
        ),
        ('size', *identities, *[name.removeprefix('expression.') for name in expressions]),
        weights['triangles'].long(),
        device,
    )


def canonical_face(device: torch.device | str = 'cpu') -> FaceModel:
    """MediaPipe's canonical face: the same 468 keypoints, one shape for everybody but its size."""
    weights = load_weights('canonical_face')
    xyz_head = weights['xyz_head'].double()
    return _build(xyz_head, _size_mode(xyz_head), ('size',), weights['triangles'].long(), device)


def _size_mode(xyz_head: Tensor) -> Tensor:
    return (INTERPUPILLARY_SIGMA_M / MEAN_INTERPUPILLARY_M) * xyz_head[None]


def _build(
    xyz_head: Tensor,
    modes: Tensor,
    mode_names: tuple[str, ...],
    triangles: Tensor,
    device: torch.device | str,
) -> FaceModel:
    model = FaceModel(
        xyz_head=xyz_head,
        modes=modes,
        mode_names=mode_names,
        normals=_vertex_normals(xyz_head, triangles),
        triangles=triangles,
        mirror=_mirror_partners(xyz_head),
    )
    tensors = {k: v.to(device) for k, v in vars(model).items() if isinstance(v, Tensor)}
    return replace(model, **tensors)


def _vertex_normals(xyz: Tensor, triangles: Tensor) -> Tensor:
    """(K, 3) unit normals, each the area-weighted mean over the vertex's triangles."""
    a, b, c = xyz[triangles].unbind(1)
    of_triangle = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(xyz)
    for corner in triangles.unbind(1):
        normals.index_add_(0, corner, of_triangle)
    return torch.nn.functional.normalize(normals, dim=-1)


def _mirror_partners(xyz: Tensor) -> Tensor:
    """(K,) the keypoint nearest to each one's mirror image."""
    return torch.cdist(xyz * xyz.new_tensor([1, -1, 1]), xyz).argmin(-1)
