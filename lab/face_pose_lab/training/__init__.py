# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of the networks: rendered heads, data sets, losses. Nothing else imports it."""
