# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Replacements for packages that an installation of ROS 2 may lack.

A ROS 2 distribution has tf2_ros and tf_transformations. A machine with only the ROS 2 Python
wheels has neither; there the needed parts are replaced. hri_msgs is optional everywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import rotations

if TYPE_CHECKING:
    from geometry_msgs.msg import TransformStamped
    from rclpy.node import Node

HAS_HRI_MSGS = importlib.util.find_spec('hri_msgs') is not None

if importlib.util.find_spec('tf_transformations'):
    from tf_transformations import quaternion_from_matrix

    def quat_xyzw_from_matrix(R: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit quaternion (x, y, z, w) of a rotation matrix (3, 3)."""
        T = np.eye(4)
        T[:3, :3] = R
        return np.asarray(quaternion_from_matrix(T))

else:
    quat_xyzw_from_matrix = rotations.to_quat_xyzw

if importlib.util.find_spec('tf2_ros'):
    from tf2_ros import TransformBroadcaster
else:
    from rclpy.qos import QoSProfile
    from tf2_msgs.msg import TFMessage

    class TransformBroadcaster:  # type: ignore[no-redef]
        """Publishes transforms on /tf, as tf2_ros does."""

        def __init__(self, node: Node) -> None:
            self._publisher: Any = node.create_publisher(TFMessage, '/tf', QoSProfile(depth=100))

        def sendTransform(self, transform: TransformStamped | Sequence[TransformStamped]) -> None:
            """Publish one transform or several in one message."""
            several = transform if isinstance(transform, Sequence) else [transform]
            self._publisher.publish(TFMessage(transforms=list(several)))


__all__ = ['HAS_HRI_MSGS', 'TransformBroadcaster', 'quat_xyzw_from_matrix']
