# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Loss through the solver: derivative of the fitted rotation by the keypoints."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from face_pose_lab.pose_layer import fitted_poses
from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_types import Keypoints
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel

OPTIONS = PoseOptions(visibility=False, independent_keypoints=20.0)
_ROBUST_RAD = math.radians(10)


def rotation_loss(
    keypoints: Keypoints, T_true: Tensor, model: FaceModel, camera: Camera
) -> Tensor:
    """Mean robust squared angle, in units of 10 deg, between fitted and true rotations.

    Args:
        keypoints: N heads, carrying a graph.
        T_true: (N, 4, 4) float64; start of the solver, which so finds the nearest minimum.
        model: Shape of the heads.
        camera: In whose pixels the keypoints are.
    """
    fitted = fitted_poses(keypoints, model, camera, OPTIONS, T_true)
    R_true = T_true[:, :3, :3].to(fitted.R_cam_head)
    omega = so3.log(R_true @ fitted.R_cam_head.mT)
    s = (omega / _ROBUST_RAD).square().sum(-1)
    s = torch.where(fitted.failed, 0.0, 2 * ((1 + s).sqrt() - 1))
    return (s.sum() / (~fitted.failed).sum().clamp_min(1)).to(keypoints.uv.device)
