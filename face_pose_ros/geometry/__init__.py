# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations, cameras, crops and small linear algebra: numpy arrays, compiled where it counts."""
