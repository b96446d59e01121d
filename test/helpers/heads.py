# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads at known poses in front of known cameras, in numpy."""

import numpy as np
from face_pose_lab.evaluation.draws import R_CAM_FRONTAL, observe, random_poses

from face_pose_ros.geometry import rotations

__all__ = ['R_CAM_FRONTAL', 'frontal', 'observe', 'random_poses']


def frontal(xyz, rotvec=(0.0, 0.0, 0.0)):
    """(4, 4): a head at xyz [m], turned by rotvec [rad] from looking along the optical axis."""
    return rotations.from_rt(rotations.exp(np.array(rotvec, float)) @ R_CAM_FRONTAL, xyz)
