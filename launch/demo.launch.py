"""Virtual camera, pose node, checker, RViz: `ros2 launch face_pose_ros demo.launch.py`."""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Camera, pose node and checker; the demo ends when the checker has reported."""
    share = FindPackageShare('face_pose_ros')
    checker = Node(
        package='face_pose_ros',
        executable='demo_checker',
        parameters=[{'output': LaunchConfiguration('output')}],
        output='screen',
    )
    nodes = [
        checker,
        Node(
            package='face_pose_ros',
            executable='pose_node',
            name='face_pose',
            parameters=[PathJoinSubstitution([share, 'config', 'pose.yaml'])],
            output='screen',
        ),
        Node(package='face_pose_ros', executable='demo_camera', output='screen'),
    ]
    if _is_installed('rviz2'):
        config = PathJoinSubstitution([share, 'config', 'face_pose.rviz'])
        nodes.append(Node(package='rviz2', executable='rviz2', arguments=['-d', config]))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'output', default_value='demo_output', description='folder for video and picture'
            ),
            *nodes,
            RegisterEventHandler(
                OnProcessExit(target_action=checker, on_exit=[EmitEvent(event=Shutdown())])
            ),
        ]
    )


def _is_installed(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True
