# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the node's parameters from a parameter file, without a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from face_pose_ros.options import named_options
from face_pose_ros.ros.declaring import ParameterError, check_names, with_parameters
from face_pose_ros.ros.parameters import Parameters

_NODE = 'face_pose'


def load_parameters(path: Path | None) -> Parameters:
    """The node's parameters from a file; missing ones have their defaults.

    Args:
        path: YAML as ROS 2 writes it: node or wildcard -> ros__parameters -> values. Sections of
            other nodes are ignored. None: all defaults.

    Raises:
        ParameterError: The file is not a parameter file, a name is unknown, or a value has the
            wrong type or is out of range; the text names file and parameter.
    """
    given = {} if path is None else _read(path)
    try:
        options = list(named_options(Parameters()))
        check_names(given, [name for name, *_ in options])
        values = {name: _number(given.get(name, default), default) for name, default, _ in options}
        for name, default, known in options:
            value = values[name]
            # Integers are accepted for floats, bools are not.
            if type(value) is not type(default) and (type(value), type(default)) != (int, float):
                raise ParameterError(
                    f'parameter {name} ({known.text}) is {value!r}, '
                    f'expected a {type(default).__name__}'
                )
        return with_parameters(Parameters(), values)
    except ParameterError as error:
        raise ParameterError(f'{path}: {error}') from error


def _read(path: Path) -> dict[str, Any]:
    expected = f'{path}: expected a parameter file: {_NODE} or /**, ros__parameters, values'
    try:
        sections = {
            name: section
            for name, section in _sections(yaml.safe_load(path.read_text()))
            if name.split('/')[-1] in ('**', '*', _NODE)
        }
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(' '.join(f'{expected} ({error})'.split())) from error
    except AttributeError as error:
        raise ParameterError(expected) from error
    if not sections or not all(isinstance(section, dict) for section in sections.values()):
        raise ParameterError(expected)
    nodes = [name for name in sections if '*' not in name]
    if len(nodes) > 1:
        raise ParameterError(
            f'{path}: parameters of {", ".join(nodes)}, expected one node: keep those of the '
            "recording's camera in a copy of the file"
        )
    return {name: value for one in sections.values() for name, value in _flat(one).items()}


def _sections(tree: Mapping[str, Any], node: str = '') -> Iterator[tuple[str, Any]]:
    """Full name of each node in a parameter file, and its values; namespaces may be nested."""
    for key, value in tree.items():
        if key == 'ros__parameters':
            yield node, value
        elif isinstance(value, dict):
            yield from _sections(value, f'{node}/{key.strip("/")}')


def _number(value: Any, default: Any) -> Any:
    """The value, as float where PyYAML took a number for a text: 3e-3 is a number to ROS."""
    if isinstance(default, float) and isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f'{prefix}{key}.')
        else:
            leaves[prefix + key] = value
    return leaves
