"""Declaring parameters, with what ROS leaves out: unknown names, and integers for numbers."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

# Declared by rclpy itself, or on demand when a topic's QoS is overridden.
_FOREIGN_PREFIXES = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')


class ParameterError(ValueError):
    """A parameter that does not exist or has a value that can't be used; the text names it."""


def declare(node: Node, name: str, default: Any, descriptor: ParameterDescriptor) -> Any:
    """Declare a parameter and return its value; an integer is taken for a number.

    Raises:
        ParameterError: The value it was started with is out of range or of another type.
    """
    override = node._parameter_overrides.get(name)
    if override is not None:
        kind = Parameter(name, value=default).type_
        node._parameter_overrides[name] = _number_for_integer(override, kind)
    try:
        return node.declare_parameter(name, default, descriptor).value
    # rclpy's own exceptions here have no common base besides this one.
    except Exception as error:
        raise ParameterError(f'parameter {name} ({descriptor.description}): {error}') from error


def close(node: Node) -> None:
    """After the last declaration: check the names that the node was started with.

    From here on integers are taken for numbers at run time too, from ROS 2 Iron on.

    Raises:
        ParameterError: Some name is not known; ROS would ignore it without a word.
    """
    check_names(node._parameter_overrides, node.get_parameters_by_prefix('').keys())
    if hasattr(node, 'add_pre_set_parameters_callback'):
        node.add_pre_set_parameters_callback(
            lambda changes: [
                _number_for_integer(change, node.get_parameter_or(change.name).type_)
                for change in changes
            ]
        )


def check_names(given: Iterable[str], known: Collection[str]) -> None:
    """Compare names from a parameter file or command line with the declared ones.

    Raises:
        ParameterError: Some name is not known; the text has the nearest known one.
    """
    own = [name for name in known if not name.startswith(_FOREIGN_PREFIXES)]
    for name in given:
        if name in own or name.startswith(_FOREIGN_PREFIXES):
            continue
        nearest = difflib.get_close_matches(name, own, n=1, cutoff=0)[0]
        raise ParameterError(f'parameter {name} does not exist; did you mean {nearest}?')


def _number_for_integer(parameter: Parameter, declared: Parameter.Type) -> Parameter:
    """The parameter, as the declared type if that is of numbers and it has integers."""
    if (parameter.type_, declared) == (Parameter.Type.INTEGER, Parameter.Type.DOUBLE):
        return Parameter(parameter.name, value=float(parameter.value))
    if (parameter.type_, declared) == (Parameter.Type.INTEGER_ARRAY, Parameter.Type.DOUBLE_ARRAY):
        return Parameter(parameter.name, value=[float(number) for number in parameter.value])
    return parameter
