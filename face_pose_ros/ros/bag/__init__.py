# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses of recordings, without a running node."""
