# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered heads: pictures through any lens, whose 6-DoF truth is exact and metric."""
