# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 side: messages in, the estimator called, messages out."""
