# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The error for unusable images, labels and measurements."""


class DataError(Exception):
    """Data that are missing, damaged or of another kind; the text names the file."""
