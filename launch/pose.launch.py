"""Start the pose node on a camera's topics: `ros2 launch face_pose_ros pose.launch.py`.

Several cameras: `cameras:=front,left` starts a node for each, in the namespaces front and left, on
the topics of that name in there; with `one_process:=true` they share their networks' batches.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('face_pose_ros')


def generate_launch_description() -> LaunchDescription:
    """Pose nodes, and RViz on request."""
    config = PathJoinSubstitution([SHARE, 'config', 'pose.yaml'])
    arguments = {
        'namespace': ('', 'namespace of everything'),
        'cameras': ('', 'namespaces of the cameras, separated by commas, within namespace'),
        'one_process': ('false', 'one process for all cameras: the way to use one GPU'),
        'image': ('image', 'topic of the camera image'),
        'camera_info': ('camera_info', 'topic of its calibration'),
        'image_transport': ('', 'raw, or compressed for <image>/compressed; empty: as in config'),
        'device': ('', "auto, cpu, cuda or 'cuda:<index>'; empty: as in config"),
        'config': (config, 'YAML file with all parameters'),
        'rviz': ('false', 'also start RViz, on the first of the cameras'),
        'fixed_frame': ('', "RViz's Fixed Frame: the camera's frame; empty: the demo's"),
        'respawn': ('false', 'start a pose node again that has ended, two seconds later'),
    }
    switches = {name for name, (default, _) in arguments.items() if default == 'false'}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=default,
                    description=description,
                    choices=['true', 'false'] if name in switches else None,
                )
                for name, (default, description) in arguments.items()
            ),
            OpaqueFunction(function=_nodes),
        ]
    )


def _nodes(context: LaunchContext) -> list[Node]:
    """RViz if asked for, and a node per camera."""
    # As text, whatever it looks like; a LaunchConfiguration would make a number of a device '0'.
    texts = {n: LaunchConfiguration(n).perform(context) for n in ('image_transport', 'device')}
    # An argument that was not given leaves the config file's value alone.
    given = {name: text for name, text in texts.items() if text}
    namespace = LaunchConfiguration('namespace').perform(context)
    cameras = LaunchConfiguration('cameras').perform(context).replace(' ', '').split(',')
    repeated = {camera for camera in cameras if cameras.count(camera) > 1}
    if repeated:
        raise ValueError(f'cameras: each once, got {", ".join(sorted(repeated))} more than once')
    namespaces = ['/'.join(name for name in (namespace, camera) if name) for camera in cameras]
    config = LaunchConfiguration('config').perform(context)
    if not Path(config).is_file():  # launch itself would start the node without it
        raise ValueError(f"config: no file '{config}'")
    common = {
        'package': 'face_pose_ros',
        'parameters': [config, given],
        'remappings': [(n, LaunchConfiguration(n)) for n in ('image', 'camera_info')],
        'output': 'screen',
        'respawn': IfCondition(LaunchConfiguration('respawn')).evaluate(context),
        'respawn_delay': 2.0,
    }
    if IfCondition(LaunchConfiguration('one_process')).evaluate(context):
        # A namespace or a name given to the process would hold for all its nodes.
        nodes = [Node(executable='multi_camera', arguments=namespaces, **common)]
    else:
        nodes = [
            Node(executable='pose_node', name='face_pose', namespace=name, **common)
            for name in namespaces
        ]
    # RViz first: where there is none nothing starts, else a pose node would be left behind.
    return [_rviz(context, namespaces[0]), *nodes]


def _rviz(context: LaunchContext, namespace: str) -> Node:
    """RViz on the outputs of the node in this namespace."""
    options = ['-d', PathJoinSubstitution([SHARE, 'config', 'face_pose.rviz'])]
    fixed_frame = LaunchConfiguration('fixed_frame').perform(context)
    if fixed_frame:
        options += ['-f', fixed_frame]
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=namespace,
        arguments=options,
        # From the names in face_pose.rviz, which are the demo's, to those of this node.
        remappings=[
            ('/face_pose/poses', 'face_pose/poses'),
            ('/face_pose/markers', 'face_pose/markers'),
            ('/face_pose/overlay', 'face_pose/overlay'),
        ],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
