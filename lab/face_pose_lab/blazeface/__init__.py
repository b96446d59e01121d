# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""BlazeFace full range (Google, 2021), to compare the head detector with."""
