# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Face Mesh's points in OpenPose's order: the 68 points of iBUG and dlib, then the pupils.

Order: Sagonas et al., "300 Faces In-The-Wild Challenge", 2016, fig. 1, and OpenPose's face output.
"""

from __future__ import annotations

# Index of the closest of the 478 points; right and left are the person's own.
OPENPOSE_70 = (
    *(127, 234, 132, 58, 172, 136, 150, 176, 152),  # 0-8: right ear along the jaw to the chin
    *(400, 379, 365, 397, 288, 361, 454, 356),  # 9-16: on to the left ear
    *(70, 63, 105, 66, 107),  # 17-21: right eyebrow, from the outside
    *(336, 296, 334, 293, 300),  # 22-26: left eyebrow, from the inside
    *(168, 197, 5, 4),  # 27-30: sellion, along the ridge to the tip of the nose
    *(240, 97, 2, 326, 460),  # 31-35: below the nose, from the right
    *(33, 160, 158, 133, 153, 144),  # 36-41: right eye, from its outer corner over the upper lid
    *(362, 385, 387, 263, 373, 380),  # 42-47: left eye, from its inner corner over the upper lid
    *(61, 40, 37, 0, 267, 270, 291),  # 48-54: upper rim of the lips, from the right
    *(321, 314, 17, 84, 91),  # 55-59: lower rim, back from the left
    *(78, 81, 13, 311, 308),  # 60-64: lower edge of the upper lip, from the right
    *(402, 14, 178),  # 65-67: upper edge of the lower lip, back from the left
    *(468, 473),  # 68, 69: pupils, right and left
)
