"""Start the pose node on a camera's topics: `ros2 launch face_pose_ros pose.launch.py`.

Several cameras: `cameras:=front,left` starts a node for each, in the namespaces front and left, on
the topics of that name in there; with `one_process:=true` they share their networks' batches.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
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
        'cameras': ('', 'namespaces of several cameras, separated by commas, within namespace'),
        'one_process': ('false', 'one process for all cameras: the way to use one GPU'),
        'image': ('image', 'topic of the camera image'),
        'camera_info': ('camera_info', 'topic of its calibration'),
        'image_transport': ('', 'raw, or compressed for <image>/compressed; empty: as in config'),
        'device': ('', "cpu, cuda or 'cuda:<index>'; empty: as in config"),
        'config': (config, 'YAML file with all parameters'),
        'rviz': ('false', "also start RViz; its Fixed Frame must be the camera's"),
    }
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in arguments.items()
            ),
            # First: without RViz nothing starts, else a pose node would be left behind.
            Node(
                package='rviz2',
                executable='rviz2',
                namespace=LaunchConfiguration('namespace'),
                arguments=['-d', PathJoinSubstitution([share, 'config', 'face_pose.rviz'])],
                # From the names in face_pose.rviz, which are the demo's, to those of this node.
                remappings=[
                    ('/face_pose/poses', 'face_pose/poses'),
                    ('/face_pose/markers', 'face_pose/markers'),
                    ('/face_pose/overlay', 'face_pose/overlay'),
                ],
                condition=IfCondition(LaunchConfiguration('rviz')),
            ),
            OpaqueFunction(function=_pose_nodes),
        ]
    )


def _pose_nodes(context: LaunchContext) -> list[Node]:
    """A node per camera; an argument that was not given leaves the config file's value alone."""
    # As text, whatever it looks like; a LaunchConfiguration would make a number of a device '0'.
    texts = {n: LaunchConfiguration(n).perform(context) for n in ('image_transport', 'device')}
    given = {name: text for name, text in texts.items() if text}
    namespace = LaunchConfiguration('namespace').perform(context)
    cameras = LaunchConfiguration('cameras').perform(context).replace(' ', '').split(',')
    namespaces = ['/'.join(name for name in (namespace, camera) if name) for camera in cameras]
    common = {
        'package': 'face_pose_ros',
        'parameters': [LaunchConfiguration('config'), given],
        'remappings': [(n, LaunchConfiguration(n)) for n in ('image', 'camera_info')],
        'output': 'screen',
    }
    if IfCondition(LaunchConfiguration('one_process')).evaluate(context):
        # A namespace or a name given to the process would hold for all its nodes.
        return [Node(executable='multi_camera', arguments=namespaces, **common)]
    return [
        Node(executable='pose_node', name='face_pose', namespace=name, **common)
        for name in namespaces
    ]
