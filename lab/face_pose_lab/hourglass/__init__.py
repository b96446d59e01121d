# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stacked hourglass of Pavlakos et al., a teacher: from all around, trained on renders."""
