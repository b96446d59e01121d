# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads in pictures and in RViz."""
