# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of the estimator: the commands behind the figures in docs/accuracy.md."""
