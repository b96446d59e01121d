# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Geometry in torch, batched and differentiable, for networks, losses and renderers."""
