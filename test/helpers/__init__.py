# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes, assertions and pictures that several test files use."""
