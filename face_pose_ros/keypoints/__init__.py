# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image and Faces -> Keypoints: where the points of each face are."""
