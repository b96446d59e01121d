# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Orientations in JPEG files."""

import struct


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation (1 to 8)."""
    tag = struct.pack('<HHHIHHI', 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b'Exif\0\0II*\0' + struct.pack('<I', 8) + tag
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:]
