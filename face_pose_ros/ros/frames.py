# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Looks up transforms from /tf and /tf_static; age of a message.

A distribution's tf2_ros.Buffer does the same and interpolates; the ROS 2 wheels lack it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from itertools import takewhile

import numpy as np
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from face_pose_ros.geometry import rotations
from face_pose_ros.ros.conversions import stamp_ns, transform

_MAX_GAP_NS = 500_000_000  # between the requested stamp and the nearest one of a moving frame
_MEMORY = 200  # transforms of each frame: 2 s of a robot that publishes at 100 Hz
_FORGET_S = 10.0  # after this time without a transform a moving frame is forgotten


class Frames:
    """Buffers the transforms of the last seconds; thread-safe."""

    def __init__(self, node: Node) -> None:
        self._lock = threading.Lock()
        self._moving: defaultdict[str, deque[TransformStamped]] = defaultdict(
            lambda: deque(maxlen=_MEMORY)
        )
        self._arrived_s: dict[str, float] = {}  # of the last one of each, the oldest first
        self._static: dict[str, TransformStamped] = {}
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(TFMessage, '/tf', self._on_tf, QoSProfile(depth=100))
        node.create_subscription(TFMessage, '/tf_static', self._on_tf_static, latched)

    def lookup(self, target: str, source: str, stamp: TimeMsg) -> NDArray[np.float64]:
        """Pose T_target_source (4, 4) of a frame in another, from the transforms nearest in time.

        Raises:
            ValueError: TF does not connect the frames, has no transform near that time, or one
                that is not rigid.
        """
        at_ns = stamp_ns(stamp)
        with self._lock:
            root, T_root_target = self._from_root(target, at_ns)
            other_root, T_root_source = self._from_root(source, at_ns)
        if root != other_root:
            raise ValueError(f"TF does not connect '{target}' and '{source}'")
        return rotations.inverse(T_root_target) @ T_root_source

    def _from_root(self, frame: str, at_ns: int) -> tuple[str, NDArray[np.float64]]:
        T_parent_frame = np.eye(4)
        # At most as many steps as there are frames, because TF may have a loop.
        for _ in range(len(self._moving) + len(self._static)):
            if frame in self._static:
                step = self._static[frame]
            elif frame in self._moving:
                step = min(
                    self._moving[frame], key=lambda msg: abs(stamp_ns(msg.header.stamp) - at_ns)
                )
                gap_ns = abs(stamp_ns(step.header.stamp) - at_ns)
                if gap_ns > _MAX_GAP_NS:
                    raise ValueError(f"TF of '{frame}' is {1e-9 * gap_ns:.1f} s from the stamp")
            else:
                break
            parent_of = step.transform
            T_parent_frame = transform(parent_of.translation, parent_of.rotation) @ T_parent_frame
            frame = step.header.frame_id
        return frame, T_parent_frame

    def _on_tf(self, msg: TFMessage) -> None:
        now_s = time.monotonic()
        with self._lock:
            for step in msg.transforms:
                frame = step.child_frame_id
                self._moving[frame].append(step)
                self._arrived_s.pop(frame, None)
                self._arrived_s[frame] = now_s
            # Frames of people come and go for as long as the robot runs.
            arrivals = self._arrived_s.items()
            for frame, _ in list(takewhile(lambda item: now_s - item[1] > _FORGET_S, arrivals)):
                del self._moving[frame], self._arrived_s[frame]

    def _on_tf_static(self, msg: TFMessage) -> None:
        with self._lock:
            self._static.update({step.child_frame_id: step for step in msg.transforms})


def seconds_since(node: Node, time: Time | None) -> float:
    """Age of a time on the node's clock [s]; infinite for None, and if the clock went back."""
    if time is None:
        return float('inf')
    age_s = 1e-9 * (node.get_clock().now() - time).nanoseconds
    return age_s if age_s >= 0 else float('inf')
