# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo: a virtual or real camera, the pose node, and a checker."""
