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
    """A new profile for sensor data; new, since rclpy writes overrides into it."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def face_publisher(node: Node, kind: type, topic: str) -> Publisher:
    """A publisher for one face of many.

    It has no event handlers, so nothing is logged of subscriptions that ask for another QoS: the
    executor would prepare two for each publisher before it waits for any message.
    """
    no_events = PublisherEventCallbacks(use_default_callbacks=False)
    return node.create_publisher(kind, topic, 10, event_callbacks=no_events)


def latched() -> QoSProfile:
    """A new profile for latched topics: published once, kept for late subscribers."""
    return QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
