# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Yaw of heads relative to the line of sight."""

from torch import Tensor, atan2


def yaw_deg(T_cam_head: Tensor) -> Tensor:
    """(B,) [deg] azimuth of the camera around heads (B, 4, 4): 0 in front, positive left."""
    towards = -(T_cam_head[:, :3, :3].mT @ T_cam_head[:, :3, 3:]).squeeze(-1)
    return atan2(towards[:, 1], towards[:, 0]).rad2deg()
