# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Example nodes that use the poses, with rclpy, numpy and scipy only."""
