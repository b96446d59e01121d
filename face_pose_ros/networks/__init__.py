# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The networks in torch, for training, GPUs, and machines without OpenVINO."""
