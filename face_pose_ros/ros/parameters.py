# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the pose node: declared from the options, read into a frozen snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from face_pose_ros.options import (
    Checked,
    EstimatorOptions,
    Option,
    named_options,
    option,
    start_option,
    with_values,
)
from face_pose_ros.ros.declaring import ParameterError, close, declare
from face_pose_ros.ros.depth_images import DEPTH_TRANSPORTS, RAW


@dataclass(frozen=True)
class Parameters(Checked):
    """Snapshot of all parameters; those of the estimator have the names of its options."""

    autostart: bool = start_option(
        True, 'configure and activate at start, without a lifecycle manager'
    )
    device: str = start_option(
        'auto',
        'device of the networks: cpu, cuda, cuda:<index>; auto: cuda if available, else cpu',
    )
    threads: int = start_option(0, 'CPU threads of one inference; 0: all cores', low=0, high=256)
    image_transport: str = start_option(
        'raw',
        'transport of the image; compressed adds /compressed to its topic',
        choices=('raw', 'compressed'),
    )
    image_is_rectified: bool = start_option(
        False, 'use P of CameraInfo without distortion, not K and D'
    )
    camera_info_is_latched: bool = start_option(
        False,
        'CameraInfo is published once and latched; it is used for all images',
    )
    use_depth: bool = option(
        False,
        'also use a depth image, from the topics depth and depth_camera_info',
        start_only=True,
    )
    depth_transport: str = option(
        RAW,
        'transport of the depth image; each but raw is added to its topic, as /compressedDepth',
        choices=DEPTH_TRANSPORTS,
        start_only=True,
    )
    depth_max_offset_s: float = option(
        0.05,
        'largest difference between the stamps of an image and its depth image',
        unit='s',
        low=0.0,
        high=1.0,
        start_only=True,
    )
    publish_tf: bool = option(True, 'publish frames face_<id> and gaze_<id>')
    estimator: EstimatorOptions = field(default_factory=EstimatorOptions)

    def options(self) -> list[tuple[str, Any, Option]]:
        """Name, value and description of every parameter."""
        prefix = 'estimator.'
        return [(n.removeprefix(prefix), value, known) for n, value, known in named_options(self)]


def declare_parameters(node: Node) -> Parameters:
    """Declare every parameter on the node and read the values it was started with.

    Raises:
        ParameterError: A value is out of range or of another type, or a name is unknown.
    """
    for name, default, known in Parameters().options():
        declare(node, name, default, known)
    close(node)
    return changed_parameters(node, ())


def changed_parameters(node: Node, changes: Iterable[Parameter]) -> Parameters:
    """The snapshot after changes at run time, whose ranges rclpy has checked.

    Raises:
        ParameterError: A value is not one of those allowed.
    """
    values = {name: node.get_parameter(name).value for name, *_ in Parameters().options()}
    return parameters_of(values | {change.name: change.value for change in changes})


def parameters_of(values: Mapping[str, Any]) -> Parameters:
    """The snapshot of values by name; missing ones have their defaults.

    Raises:
        ParameterError: A value is not one of those allowed.
    """
    prefix = 'estimator.'
    own = {n for n, *_ in named_options(Parameters()) if not n.startswith(prefix)}
    named = {n if n in own else prefix + n: value for n, value in values.items()}
    try:
        return with_values(Parameters(), named)
    except ValueError as error:
        raise ParameterError(f'parameter {str(error).removeprefix(prefix)}') from error
