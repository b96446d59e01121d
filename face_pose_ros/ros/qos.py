"""Quality of service: defaults, and what a user may change by `qos_overrides.<topic>...`."""

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
    """The profile for sensor data, a new one each time: rclpy writes overrides into it."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def latched() -> QoSProfile:
    """The profile for what is published once and kept for late subscribers, likewise."""
    return QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
