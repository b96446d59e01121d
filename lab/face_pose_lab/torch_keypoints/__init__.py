# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heatmaps and regression in torch, for losses."""
