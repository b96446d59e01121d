# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers that stay what they were, and the pictures that they belong to.

They are those of commit cf47de0. Only frames 248 to 256 ('occluded') have been answered anew:
a crop that starts far from the face has to settle since (`_FAR` of `keypoints.predictor`).
"""
