# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoint network: data, training, evaluation and export."""
