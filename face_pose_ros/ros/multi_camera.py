# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several cameras in one process and on one device: a pose node each, batched inference.

    ros2 run face_pose_ros multi_camera front left

The arguments are the namespaces of the nodes, each named face_pose; relative ones are in the
namespace of the process, which a launch file may set.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from rclpy.exceptions import InvalidNamespaceException
from rclpy.utilities import remove_ros_args
from rclpy.validate_namespace import validate_namespace

from face_pose_ros.engines.shared import SharedNetworks
from face_pose_ros.ros.node import PoseNode, run


def _namespace(text: str) -> str:
    try:
        validate_namespace(f'/{text.lstrip("/")}')
    except InvalidNamespaceException as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _without_namespace(args: Sequence[str]) -> tuple[list[str], str]:
    """The arguments without `-r __ns:=`, and its namespace.

    rcl would move all nodes of the process into it; being one another's doubles, they would share
    their topics.
    """
    kept: list[str] = []
    namespace = ''
    for argument in args:
        rule = re.fullmatch(r'__ns:=(.+)', argument)
        if rule and kept[-1:] in (['-r'], ['--remap']):
            kept.pop()
            namespace = rule[1]
        else:
            kept.append(argument)
    return kept, namespace


def main(args: list[str] | None = None) -> None:
    """Run a node for each camera until the process is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'namespace', type=_namespace, nargs='+', help='of a camera: its node is there'
    )
    args, outer = _without_namespace(args or sys.argv)
    namespaces = [
        name if name.startswith('/') else f'{outer.rstrip("/")}/{name}'
        for name in parser.parse_args(remove_ros_args(args)[1:]).namespace
    ]
    repeated = {name for name in namespaces if namespaces.count(name) > 1}
    if repeated:
        parser.error(f'each namespace once, got {", ".join(sorted(repeated))} more than once')
    shared = SharedNetworks()
    run(lambda: [PoseNode(shared, namespace=name) for name in namespaces], args)
