# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Face Mesh's 478 points, in whose order faces are reported: which is what."""

POINTS = 478
# The irises behind the 468 points of the face's surface turn with the gaze, not with the head.
SURFACE_POINTS = 468
# Corners and lids of the right and the left eye; 468 to 472 and 473 to 477 are their irises.
EYELIDS = ((33, 133, 159, 145), (263, 362, 386, 374))
