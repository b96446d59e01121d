"""Faces with a known pose in front of a known camera."""

from dataclasses import replace

import torch
from face_pose_lab.evaluation.draws import R_CAM_FRONTAL, isotropic, observe, random_poses

from face_pose_ros.pose.face_model import FaceModel, canonical_face

__all__ = ['R_CAM_FRONTAL', 'isotropic', 'observe', 'random_poses', 'wavy_face']


def wavy_face(modes: int = 6) -> FaceModel:
    """The canonical face with smooth modes of some millimetres."""
    face = canonical_face()
    generator = torch.Generator().manual_seed(7)
    uniform = torch.rand(modes, 3, 3, generator=generator, dtype=torch.float64)
    phase = 60 * torch.einsum('kx,mxy->mky', face.xyz_head, uniform - 0.5)
    waves = 0.002 * torch.sin(phase + 6 * uniform[:, :1])
    return replace(
        face,
        modes=waves,
        mode_names=(*(f'identity_{i + 1}' for i in range(modes - 1)), 'jaw_open'),
    )
