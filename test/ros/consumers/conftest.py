# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The examples are tested as the other nodes are, on a DDS domain of their own."""

from ros.conftest import process_env, ros

__all__ = ['process_env', 'ros']
