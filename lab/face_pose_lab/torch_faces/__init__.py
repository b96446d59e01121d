# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The detectors' decoding in torch, batched and differentiable, for losses."""
