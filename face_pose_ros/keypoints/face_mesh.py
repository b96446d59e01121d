# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Indices of Face Mesh's 478 points, the order of the published keypoints."""

POINTS = 478
# Points from 468 on are the irises, which move with the gaze and not with the head.
SURFACE_POINTS = 468
# Corners and lids of the right and left eye, whose irises are points 468-472 and 473-477.
EYELIDS = ((33, 133, 159, 145), (263, 362, 386, 374))
