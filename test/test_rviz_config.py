# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""config/face_pose.rviz: classes that RViz 2 has, topics that the node publishes."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CONFIG = yaml.safe_load((ROOT / 'config' / 'face_pose.rviz').read_text())
MANAGER = CONFIG['Visualization Manager']
DISPLAYS = {display['Name']: display for display in MANAGER['Displays']}

# Of rviz_default_plugins: display -> the message it subscribes to; None: no topic of its own.
MESSAGES = {
    'Grid': None,
    'TF': None,
    'Image': 'sensor_msgs/msg/Image',
    'MarkerArray': 'visualization_msgs/msg/MarkerArray',
    'PoseArray': 'geometry_msgs/msg/PoseArray',
    'PoseWithCovariance': 'geometry_msgs/msg/PoseWithCovarianceStamped',
}
PANELS = {'Displays', 'Help', 'Selection', 'Time', 'Tool Properties', 'Transformation', 'Views'}
TOOLS = {'FocusCamera', 'Interact', 'Measure', 'MoveCamera', 'PublishPoint', 'Select'}
VIEWS = {'FPS', 'FrameAligned', 'Orbit', 'ThirdPersonFollower', 'TopDownOrtho', 'XYOrbit'}
# What QosProfileProperty of rviz_common understands; it takes anything else for the default.
RELIABILITY = {'Reliable', 'Best Effort', 'System Default'}


def class_of(item: dict, package: str = 'rviz_default_plugins') -> str:
    prefix, name = item['Class'].split('/')
    assert prefix == package
    return name


def strings_of_the_nodes() -> set[str]:
    return {
        node.value
        for path in (ROOT / 'face_pose_ros' / 'ros').rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


TOPICS = {
    display['Topic']['Value']: display for display in DISPLAYS.values() if 'Topic' in display
}


def test_every_class_exists_in_rviz_2():
    assert {class_of(display) for display in DISPLAYS.values()} <= MESSAGES.keys()
    assert {class_of(panel, 'rviz_common') for panel in CONFIG['Panels']} <= PANELS
    assert {class_of(tool) for tool in MANAGER['Tools']} <= TOOLS
    assert class_of(MANAGER['Views']['Current']) in VIEWS


def test_shows_tf_poses_markers_and_overlay():
    shown = {class_of(display) for display in DISPLAYS.values() if display['Enabled']}
    assert shown >= {'TF', 'PoseArray', 'MarkerArray', 'Image'}


@pytest.mark.parametrize('name', DISPLAYS)
def test_a_display_has_a_topic_if_it_subscribes(name):
    display = DISPLAYS[name]
    assert ('Topic' in display) == (MESSAGES[class_of(display)] is not None)
    if 'Topic' in display:
        assert display['Topic'].keys() == {'Value', 'Depth', 'Reliability Policy'}
        assert display['Topic']['Depth'] >= 1
        assert display['Topic']['Reliability Policy'] in RELIABILITY


def test_namespaces_are_those_of_the_markers():
    markers = pytest.importorskip('face_pose_ros.ros.drawing.markers')
    assert set(DISPLAYS['Faces']['Namespaces']) == set(markers.NAMESPACES)


@pytest.mark.parametrize('topic', TOPICS)
def test_topic_is_the_node_s(topic):
    api = pytest.importorskip('tools.ros_api', reason='needs the ROS 2 wheels or a distribution')
    (node,) = [e for e in api.EXECUTABLES if e.name == 'pose_node']
    assert topic.startswith('/face_pose/')
    assert topic.replace('/face_pose/', '~/') in {published.name for published in node.published}


def test_fixed_frame_is_the_demo_camera_s():
    assert MANAGER['Global Options']['Fixed Frame'] in strings_of_the_nodes()


@pytest.mark.dds
def test_the_running_node_offers_every_topic_with_a_compatible_qos():
    """RViz shows a red entry for another type, and nothing at all for an incompatible QoS."""
    rclpy = pytest.importorskip('rclpy', reason='needs the ROS 2 wheels or a distribution')
    domain_coordinator = pytest.importorskip('domain_coordinator')
    from rclpy.qos import ReliabilityPolicy

    with domain_coordinator.domain_id() as domain_id:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain_id)
        rviz = rclpy.create_node('rviz', context=context, use_global_arguments=False)
        process = subprocess.Popen(
            [sys.executable, '-m', 'face_pose_ros.ros.programs', 'pose_node'],
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        )
        try:
            end_s = time.monotonic() + 60
            while missing := [t for t in TOPICS if not rviz.count_publishers(t)]:
                assert process.poll() is None, 'the node has ended'
                assert time.monotonic() < end_s, f'no node publishes {missing}'
                time.sleep(0.05)
            for topic, display in TOPICS.items():
                (offer,) = rviz.get_publishers_info_by_topic(topic)
                assert offer.topic_type == MESSAGES[class_of(display)]
                if display['Topic']['Reliability Policy'] == 'Reliable':
                    assert offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        finally:
            process.kill()
            process.wait()
            rviz.destroy_node()
            rclpy.shutdown(context=context)
