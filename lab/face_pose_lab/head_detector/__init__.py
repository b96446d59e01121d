# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of the head detector: one pass over an image proposes every head with its pose."""
