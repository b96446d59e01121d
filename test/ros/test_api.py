# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tables behind docs/ros_api.md are those of the running nodes."""

from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from rclpy.parameter import Parameter

from face_pose_ros.options import named_options
from face_pose_ros.ros.consumers.look_at import LookAt
from face_pose_ros.ros.consumers.who_looks import WhoLooks
from face_pose_ros.ros.demo.checker import DemoChecker
from face_pose_ros.ros.demo.demo_camera import DemoCamera
from face_pose_ros.ros.demo.recorder import DemoRecorder
from face_pose_ros.ros.node import PoseNode
from tools.ros_api import EXECUTABLES

ROOT = Path(__file__).parents[2]
BY_NAME = {executable.name: executable for executable in EXECUTABLES}
# Packages whose types only the topics and services of every node have.
EVERY_NODES = ('rcl_interfaces', 'type_description_interfaces', 'rosgraph_msgs')


def make(name, ros, tmp_path):
    common = {'context': ros.context, 'use_global_arguments': False}
    output = [Parameter('output', value=str(tmp_path / 'out'))]
    if name == 'pose_node':
        node = PoseNode(**common)
        assert node.autostart()
        return node
    if name == 'demo_checker':
        return DemoChecker(parameter_overrides=output, **common)
    if name == 'demo_recorder':
        return DemoRecorder(parameter_overrides=output, **common)
    if name == 'face_pose_view':
        pytest.importorskip('rerun', reason='needs the rerun SDK (make view)')
        from face_pose_ros.ros.view.view_node import ViewNode

        return ViewNode(parameter_overrides=output, **common)
    return {'look_at': LookAt, 'who_looks': WhoLooks, 'demo_camera': DemoCamera}[name](**common)


def own(node, names_and_types):
    """Topics or services of a node, without those that rclpy adds to every node."""
    return {
        name: types[0].replace('/msg/', '/').replace('/srv/', '/')
        for name, types in names_and_types
        if not types[0].startswith(EVERY_NODES)
    }


def resolved(node, topics):
    return {node.resolve_topic_name(topic.name.replace('<id>', 'ID')): topic for topic in topics}


@pytest.mark.dds
@pytest.mark.parametrize('name', BY_NAME)
def test_topics_services_and_parameters_are_those_of_the_node(ros, tmp_path, name):
    node = ros.add(make(name, ros, tmp_path))
    where = node.get_name(), node.get_namespace()
    executable = BY_NAME[name]
    assert node.get_name() == executable.node
    late = name == 'face_pose_view'  # subscribes to the camera after the node
    for found, table in (
        (node.get_subscriber_names_and_types_by_node(*where), executable.subscribed),
        (node.get_publisher_names_and_types_by_node(*where), executable.published),
        (node.get_service_names_and_types_by_node(*where), executable.services),
    ):
        live, listed = own(node, found), resolved(node, table)
        assert live == {n: listed[n].type for n in live if n in listed}
        missing = {n for n, topic in listed.items() if not topic.optional} - live.keys()
        assert missing <= ({'/image', '/camera_info'} if late else set())
    declared = set(node.get_parameters_by_prefix(''))
    known = named_options(executable.parameters)
    ros_own = ('qos_overrides', 'use_sim_time', 'start_type_description_service')
    assert {n for n, _, _ in known} == {n for n in declared if not n.startswith(ros_own)}


def test_every_executable_of_the_package_is_listed():
    programs = {
        line.split("f'")[1].split(' ')[0]
        for line in (ROOT / 'setup.py').read_text().splitlines()
        if "f'" in line and ' = {NAME}' in line
    }
    # Its nodes are pose_node's; no node.
    assert programs - set(BY_NAME) == {'multi_camera', 'face_pose_bag'}
