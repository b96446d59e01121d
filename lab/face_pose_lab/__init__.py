# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training, renderers and evaluation of face_pose_ros; robots do not need it."""
