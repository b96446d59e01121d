# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints + camera + face model -> head poses with covariance."""
