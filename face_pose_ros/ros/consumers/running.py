# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Shared by the example nodes: age of a message, and a main with one-line error messages."""

from __future__ import annotations

from collections.abc import Callable

import rclpy
from rclpy.node import Node
from rclpy.time import Time

from face_pose_ros.ros.declaring import PARAMETER_ERRORS
from face_pose_ros.ros.spinning import init, leave, until_interrupted


def seconds_since(node: Node, time: Time | None) -> float:
    """Age of a time on the node's clock [s]; infinite for None, and if the clock went back."""
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
        except PARAMETER_ERRORS as error:
            rclpy.logging.get_logger('face_pose_ros').fatal(str(error))
            leave(1)
        rclpy.spin(node)
    leave(0)
