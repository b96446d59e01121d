# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Topics: their quality of service, which `qos_overrides.<topic>...` may change; transports."""

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from face_pose_ros.ros.depth_images import RAW

_OVERRIDES = QoSOverridingOptions(
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


def latched() -> QoSProfile:
    """A new profile for latched topics: published once, kept for late subscribers."""
    return QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def subscribe(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile | None = None,
) -> Subscription:
    """A subscription with parameters `qos_overrides.<topic>...`; by default for sensor data."""
    return node.create_subscription(
        kind, topic, callback, qos or sensor_data(), qos_overriding_options=_OVERRIDES
    )


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
        qos_overriding_options=_OVERRIDES if overridable else None,
    )


def transported(node: Node, name: str, transport: str) -> tuple[str, type]:
    """Topic and type of an image with this transport; the topic with it may be remapped, too."""
    topic = node.resolve_topic_name(name)
    if transport == RAW:
        return topic, Image
    return node.resolve_topic_name(f'{topic}/{transport}'), CompressedImage
