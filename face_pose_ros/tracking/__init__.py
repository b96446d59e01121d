# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tracking: ids, filtered poses, and the remembered shape of each person."""
