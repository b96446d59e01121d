"""Start the pose node on a camera's topics: `ros2 launch face_pose_ros pose.launch.py`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Pose node, and RViz on request."""
    share = FindPackageShare('face_pose_ros')
    config = PathJoinSubstitution([share, 'config', 'pose.yaml'])
    arguments = {
        'namespace': ('', 'namespace of the node'),
        'image': ('image', 'topic of the camera image'),
        'camera_info': ('camera_info', 'topic of its calibration'),
        'image_transport': ('raw', 'raw, or compressed for <image>/compressed'),
        'device': ('cpu', "cpu, cuda or 'cuda:<index>'"),
        'config': (config, 'YAML file with all other parameters'),
        'rviz': ('false', 'also start RViz'),
    }
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in arguments.items()
            ),
            Node(
                package='face_pose_ros',
                executable='pose_node',
                name='face_pose',
                namespace=LaunchConfiguration('namespace'),
                parameters=[
                    LaunchConfiguration('config'),
                    {
                        'image_transport': LaunchConfiguration('image_transport'),
                        'device': LaunchConfiguration('device'),
                    },
                ],
                remappings=[
                    ('image', LaunchConfiguration('image')),
                    ('camera_info', LaunchConfiguration('camera_info')),
                ],
                output='screen',
            ),
            Node(
                package='rviz2',
                executable='rviz2',
                arguments=['-d', PathJoinSubstitution([share, 'config', 'face_pose.rviz'])],
                condition=IfCondition(LaunchConfiguration('rviz')),
            ),
        ]
    )
