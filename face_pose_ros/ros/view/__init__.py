# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The poses in 3-D, with rerun."""
