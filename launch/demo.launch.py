"""Virtual camera, pose node, checker, RViz: `ros2 launch face_pose_ros demo.launch.py`."""

import os

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable, Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Up to ROS 2 Jazzy the variable has another name; later ones warn about that.
OLD = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE' if OLD else 'FASTDDS_DEFAULT_PROFILES_FILE'


def generate_launch_description() -> LaunchDescription:
    """Camera, pose node and checker; the demo ends when the checker has reported."""
    config = PathJoinSubstitution([FindPackageShare('face_pose_ros'), 'config'])
    large_images = PathJoinSubstitution([config, 'fastdds_large_images.xml'])
    # Camera and checker need a core too, and a thread that waits for one holds up all the others.
    threads = max(1, (os.cpu_count() or 1) - 1)
    actions = [
        DeclareLaunchArgument(
            'output', default_value='demo_output', description='folder for video and picture'
        ),
        # Without it many images are lost on Fast DDS; a profile of the user's own counts more.
        SetEnvironmentVariable(
            PROFILES, EnvironmentVariable(PROFILES, default_value=large_images)
        ),
        Node(
            package='face_pose_ros',
            executable='demo_checker',
            parameters=[{'output': ParameterValue(LaunchConfiguration('output'), value_type=str)}],
            output='screen',
            on_exit=Shutdown(),
        ),
        Node(
            package='face_pose_ros',
            executable='pose_node',
            name='face_pose',
            parameters=[PathJoinSubstitution([config, 'pose.yaml']), {'threads': threads}],
            output='screen',
            # Else camera and checker would wait for it for ever.
            on_exit=Shutdown(),
        ),
        Node(package='face_pose_ros', executable='demo_camera', output='screen'),
    ]
    if _is_installed('rviz2'):
        view = PathJoinSubstitution([config, 'face_pose.rviz'])
        actions.append(Node(package='rviz2', executable='rviz2', arguments=['-d', view]))
    return LaunchDescription(actions)


def _is_installed(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True
