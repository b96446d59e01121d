# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras with asymmetric numbers: no half-pixel slip or swapped axis can hide."""

from face_pose_lab.evaluation.cameras import DISTORTIONS, HEIGHT, WIDTH, K, make_camera

__all__ = [
    'DISTORTIONS',
    'HEIGHT',
    'TORCH_LENSES',
    'WIDTH',
    'K',
    'make_camera',
    'make_torch_camera',
]

TORCH_LENSES = [name for name in DISTORTIONS if name != 'tilted_14']


def make_torch_camera(name='none'):
    """The lab's camera of the same lens."""
    from face_pose_lab.torch_geometry.camera import torch_camera

    return torch_camera(make_camera(name))
