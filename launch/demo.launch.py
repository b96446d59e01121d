# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual camera, pose node, checker, RViz: `ros2 launch face_pose_ros demo.launch.py`."""

import os

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Up to ROS 2 Jazzy the variable has another name; later ones warn about that.
OLD = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE' if OLD else 'FASTDDS_DEFAULT_PROFILES_FILE'


def generate_launch_description() -> LaunchDescription:
    """Camera, pose node and checker; ends with the checker's report."""
    arguments = {
        'output': ('demo_output', 'folder for video and picture'),
        'source': ('virtual', 'virtual, webcam:<index>, a video file or a folder of images'),
        'calibration': ('', 'calibration file of the source; not for virtual'),
        'fov_deg': ('60.0', 'horizontal field of view used without a calibration [deg]'),
        'rate_hz': ('', "images per second; empty: the source's own, 1 for a folder"),
    }
    large_images = PathJoinSubstitution([_config(), 'fastdds_large_images.xml'])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in arguments.items()
            ),
            # Without it Fast DDS loses many images; the user's own profile takes precedence.
            SetEnvironmentVariable(
                PROFILES, EnvironmentVariable(PROFILES, default_value=large_images)
            ),
            OpaqueFunction(function=_nodes),
        ]
    )


def _nodes(context: LaunchContext) -> list[Node]:
    output, source, calibration, fov_deg, rate_hz = (
        LaunchConfiguration(name).perform(context)
        for name in ('output', 'source', 'calibration', 'fov_deg', 'rate_hz')
    )
    virtual = source == 'virtual'
    camera = {'source': _text(source), 'calibration': _text(calibration), 'with_node': True}
    if not (virtual or calibration):
        camera['horizontal_fov_deg'] = float(fov_deg)
    # Camera and checker need a core too: one waiting thread delays the whole inference.
    threads = max(1, (os.cpu_count() or 1) - 1)
    node = {'threads': threads}
    if rate_hz:
        camera['rate_hz'] = float(rate_hz)
    elif os.path.isdir(os.path.expanduser(source)):
        # Each image is another scene: tracks must end between them.
        camera['rate_hz'], node['tracking.lost_after_s'] = 1.0, 0.5
    common = {'package': 'face_pose_ros', 'output': 'screen'}
    # True poses are known for the virtual camera only; others are recorded.
    reporting = {'parameters': [{'output': _text(output)}], 'on_exit': Shutdown(), **common}
    nodes = [
        Node(executable='demo_checker', **reporting)
        if virtual
        else Node(executable='demo_recorder', **reporting),
        Node(
            executable='pose_node',
            name='face_pose',
            parameters=[PathJoinSubstitution([_config(), 'pose.yaml']), node],
            # Camera and checker would wait for it forever.
            on_exit=Shutdown(),
            **common,
        ),
        Node(
            executable='demo_camera',
            parameters=[camera],
            # The checker reports by itself at the end of the virtual camera.
            on_exit=lambda event, _: None if virtual and event.returncode == 0 else [Shutdown()],
            **common,
        ),
    ]
    if _is_installed('rviz2'):
        view = PathJoinSubstitution([_config(), 'face_pose.rviz'])
        nodes.append(Node(package='rviz2', executable='rviz2', arguments=['-d', view]))
    return nodes


def _config() -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare('face_pose_ros'), 'config'])


def _text(value: str) -> ParameterValue:
    # A folder named 12 is not a number.
    return ParameterValue(value, value_type=str)


def _is_installed(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True
