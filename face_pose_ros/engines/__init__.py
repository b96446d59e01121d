# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Inference engines: OpenVINO on CPUs; torch on GPUs, and on CPUs without OpenVINO."""
