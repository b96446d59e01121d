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
    """Camera, pose node and checker; the demo ends when the checker has reported."""
    arguments = {
        'output': ('demo_output', 'folder for video and picture'),
        'source': ('virtual', 'virtual, webcam:<index>, a video file or a folder of pictures'),
        'calibration': ('', "camera_calibration's YAML file of another source than virtual"),
        'fov_deg': ('60.0', 'its horizontal field of view, guessed without a calibration'),
        'rate_hz': ('', "pictures per second; empty: the source's own, of a folder 1"),
    }
    large_images = PathJoinSubstitution([_config(), 'fastdds_large_images.xml'])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in arguments.items()
            ),
            # Without it many images are lost on Fast DDS; a profile of the user's own counts more.
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
    # Camera and checker need a core too, and a thread that waits for one holds up all the others.
    threads = max(1, (os.cpu_count() or 1) - 1)
    node = {'threads': threads}
    if rate_hz:
        camera['rate_hz'] = float(rate_hz)
    elif os.path.isdir(os.path.expanduser(source)):
        # Each picture is another scene: nobody is remembered from one to the next.
        camera['rate_hz'], node['tracking.lost_after_s'] = 1.0, 0.5
    common = {'package': 'face_pose_ros', 'output': 'screen'}
    # The truth is known of the virtual camera alone; of others the answers are recorded.
    reporting = {'parameters': [{'output': _text(output)}], 'on_exit': Shutdown(), **common}
    nodes = [
        Node(executable='demo_checker', **reporting)
        if virtual
        else Node(executable='demo_recorder', **reporting),
        Node(
            executable='pose_node',
            name='face_pose',
            parameters=[PathJoinSubstitution([_config(), 'pose.yaml']), node],
            # Else camera and checker would wait for it for ever.
            on_exit=Shutdown(),
            **common,
        ),
        Node(
            executable='demo_camera',
            parameters=[camera],
            # The checker reports by itself when all has been shown.
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
    # A folder named 12 is no number.
    return ParameterValue(value, value_type=str)


def _is_installed(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True
