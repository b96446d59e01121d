# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers that stay what they were, and the pictures that they belong to.

The solver's are those of commit cf47de0; the estimator's were frozen when one keypoint network
took the place of two.
"""
