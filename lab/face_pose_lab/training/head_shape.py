# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The deformable shape of the keypoints of a head, from heads of which it is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from face_pose_ros.pose.face_model import FaceModel, deformable_face


def fit_head_shape(xyz_head: Tensor, modes: int) -> dict[str, Tensor]:
    """Mean and principal components of heads, after each was brought to the same size.

    The size of a head is the root mean square distance of its keypoints from their mean.

    Args:
        xyz_head: (N, K, 3) m, in the head frame.
        modes: M, how many components to keep, at most N - 1.

    Returns:
        'mean' (K, 3) m; 'modes' (M, K, 3) m per standard deviation; 'size_sigma' (), that of
        the packaged face, relative.
    """
    spread = xyz_head - xyz_head.mean(1, keepdim=True)
    size = spread.square().sum(-1).mean(-1).sqrt()
    scaled = xyz_head * (size.mean() / size)[:, None, None]
    mean = scaled.mean(0)
    _, sigma, Vh = torch.linalg.svd((scaled - mean).flatten(1), full_matrices=False)
    components = Vh[:modes] * (sigma[:modes, None] / len(scaled) ** 0.5)
    return {
        'mean': mean,
        'modes': components.view(-1, *mean.shape),
        'size_sigma': torch.as_tensor(deformable_face().size_sigma, dtype=mean.dtype),
    }


def head_model(shape: dict[str, Tensor]) -> FaceModel:
    """The model that `pose.fit` fits; its keypoints are seen from all sides."""
    mean = shape['mean'].double().cpu().numpy()
    outward = mean - mean.mean(0)
    return FaceModel(
        xyz_head=mean,
        modes=shape['modes'].double().cpu().numpy(),
        mode_names=tuple(f'identity_{i + 1}' for i in range(len(shape['modes']))),
        size_per_m=0.0,
        size_sigma_given_pupils=float(shape['size_sigma']),
        normals=outward / np.linalg.norm(outward, axis=-1, keepdims=True),
        triangles=np.zeros((0, 3), np.int64),
    )
