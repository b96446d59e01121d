# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Declares options as parameters; unknown names are errors, integers are accepted for doubles."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException, ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter

from face_pose_ros.options import Option, Options, named_options, with_values

# Declared by rclpy itself, or on demand when a topic's QoS is overridden.
_FOREIGN_PREFIXES = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')


class ParameterError(ValueError):
    """A parameter does not exist or its value is invalid; the text names it."""


class UnknownParameterError(ParameterError, ParameterNotDeclaredException):
    """There is no parameter of this name; the text suggests one, also in rclpy's services."""

    def __init__(self, text: str) -> None:
        """Without the text of rclpy, which does not name the parameter."""
        Exception.__init__(self, text)


# Of a bad start; rclpy itself declares use_sim_time when a node is created.
PARAMETER_ERRORS = ParameterError, ParameterException


def declare_options(node: Node, options: Options) -> Options:
    """Declare all options of a dataclass as the only parameters of a node.

    Args:
        node: The node.
        options: Give names, defaults, ranges and texts.

    Returns:
        The options with the values that the node was started with.

    Raises:
        ParameterError: A value is out of range or of another type or length, or a name is unknown.
    """
    values = {
        name: _declare(node, name, default, known)
        for name, default, known in named_options(options)
    }
    _close(node)
    return with_parameters(options, values)


def with_parameters(options: Options, values: Mapping[str, Any]) -> Options:
    """A copy of the options with some values replaced, given by the names of the parameters.

    Raises:
        ParameterError: A value is out of range.
    """
    try:
        return with_values(options, values)
    except ValueError as error:
        raise ParameterError(f'parameter {error}') from error


def _declare(node: Node, name: str, default: Any, known: Option) -> Any:
    """Declare a parameter and return its value; integers are accepted for doubles.

    Args:
        node: The node.
        name: Name of the parameter.
        default: Gives the type and, for a tuple, the length.
        known: Range, unit and text.

    Raises:
        ParameterError: The start value is out of range or of another type or length.
    """
    descriptor = _descriptor(default, known)
    is_list = isinstance(default, tuple)
    initial = list(default) if is_list else default
    override = node._parameter_overrides.get(name)
    if override is not None:
        kind = Parameter(name, value=initial).type_
        node._parameter_overrides[name] = _number_for_integer(override, kind)
    try:
        value = node.declare_parameter(name, initial, descriptor).value
    # rclpy's own exceptions here have no common base besides this one.
    except Exception as error:
        raise ParameterError(f'parameter {name} ({descriptor.description}): {error}') from error
    if is_list and len(value) != len(default):
        raise ParameterError(
            f'parameter {name} ({descriptor.description}) is {list(value)}, '
            f'expected {len(default)} values'
        )
    return tuple(value) if is_list else value


def _close(node: Node) -> None:
    """Check the parameter names that the node was started with, after the last declaration.

    From then on also those that are set at run time, and integers are accepted for doubles (ROS 2
    Iron and later).

    Raises:
        UnknownParameterError: A name is unknown; ROS itself would ignore it.
    """
    known = node.get_parameters_by_prefix('').keys()
    check_names(node._parameter_overrides, known)

    def prepared(changes: list[Parameter]) -> list[Parameter]:
        check_names([change.name for change in changes], known)
        return [
            _number_for_integer(change, node.get_parameter_or(change.name).type_)
            for change in changes
        ]

    if hasattr(node, 'add_pre_set_parameters_callback'):
        node.add_pre_set_parameters_callback(prepared)


def check_names(given: Iterable[str], known: Collection[str]) -> None:
    """Compare names from a parameter file or command line with the declared ones.

    Raises:
        UnknownParameterError: A name is unknown; the text suggests the nearest known one.
    """
    own = [name for name in known if not name.startswith(_FOREIGN_PREFIXES)]
    for name in given:
        if name in own or name.startswith(_FOREIGN_PREFIXES):
            continue
        nearest = difflib.get_close_matches(name, own, n=1, cutoff=0)[0]
        raise UnknownParameterError(f'parameter {name} does not exist; did you mean {nearest}?')


def _number_for_integer(parameter: Parameter, declared: Parameter.Type) -> Parameter:
    """The parameter; integers become doubles if doubles are declared."""
    if (parameter.type_, declared) == (Parameter.Type.INTEGER, Parameter.Type.DOUBLE):
        return Parameter(parameter.name, value=float(parameter.value))
    if (parameter.type_, declared) == (Parameter.Type.INTEGER_ARRAY, Parameter.Type.DOUBLE_ARRAY):
        return Parameter(parameter.name, value=[float(number) for number in parameter.value])
    return parameter


def _descriptor(default: object, known: Option) -> ParameterDescriptor:
    text = f'{known.text} [{known.unit}]' if known.unit else known.text
    descriptor = ParameterDescriptor(description=text, read_only=known.start_only)
    if known.choices:
        descriptor.additional_constraints = f'one of {", ".join(known.choices)}'
    if known.low is not None and known.high is not None:
        if isinstance(default, int):
            descriptor.integer_range = [
                IntegerRange(from_value=int(known.low), to_value=int(known.high))
            ]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(known.low), to_value=float(known.high))
            ]
    return descriptor
