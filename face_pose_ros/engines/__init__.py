# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the networks run: OpenVINO on a CPU, torch on a GPU or anywhere; arrays in, arrays out."""
