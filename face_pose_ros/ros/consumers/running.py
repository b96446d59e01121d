"""What every small node needs: checked parameters, and a main that ends with one clear line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.time import Time

from face_pose_ros.ros.declaring import ParameterError, declare
from face_pose_ros.ros.spinning import init, leave, until_interrupted


def parameter(
    node: Node, name: str, default: Any, description: str, low: float = 0, high: float = 0
) -> Any:
    """Declare a parameter that is read once, at start.

    Args:
        node: Declares it.
        name: Of the parameter.
        default: Also says the type and, of a list, the length.
        description: With its unit.
        low: Least value of a number.
        high: Largest value of a number; equal to `low`: any.

    Raises:
        ParameterError: A value is out of range, of another type or of another length.
    """
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if low < high:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high))
        ]
    value = declare(node, name, default, descriptor)
    if isinstance(default, list) and len(value) != len(default):
        raise ParameterError(
            f'parameter {name} ({description}) is {list(value)}, expected {len(default)} values'
        )
    return value


def seconds_since(node: Node, time: Time | None) -> float:
    """Time since then by the node's clock [s]; infinite for never, and after a jump back."""
    if time is None:
        return float('inf')
    age_s = 1e-9 * (node.get_clock().now() - time).nanoseconds
    return age_s if age_s >= 0 else float('inf')


def run(make_node: Callable[[], Node], args: list[str] | None = None) -> None:
    """Run a node until it is interrupted."""
    init(args)
    with until_interrupted():
        try:
            node = make_node()
        except ParameterError as error:
            rclpy.logging.get_logger('face_pose_ros').fatal(str(error))
            leave(1)
        rclpy.spin(node)
    leave(0)
