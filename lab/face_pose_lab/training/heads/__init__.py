# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered heads of two families, with exact truth."""
