# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Face Mesh V2, a teacher: others' weights, 256 px, good at faces from about the front."""
