# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""3-D view of the poses, with the rerun SDK."""
