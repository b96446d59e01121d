# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service: defaults, and policies that `qos_overrides.<topic>...` may change."""

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

QOS_OVERRIDES = QoSOverridingOptions(
    [
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    ]
)


def sensor_data() -> QoSProfile:
    """A new profile for sensor data; a new one, because rclpy writes overrides into it."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def advertise(node: Node, kind: type, topic: str, overridable: bool = True) -> Publisher:
    """A publisher without event handlers, which would cost time in every cycle of the executor.

    Incompatible QoS is reported by the subscriber.

    Args:
        node: The node.
        kind: Type of the messages.
        topic: Name.
        overridable: Whether parameters `qos_overrides.<topic>...` are declared.
    """
    return node.create_publisher(
        kind,
        topic,
        10,
        event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
        qos_overriding_options=QOS_OVERRIDES if overridable else None,
    )


def latched() -> QoSProfile:
    """A new profile for latched topics: published once, kept for late subscribers."""
    return QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
