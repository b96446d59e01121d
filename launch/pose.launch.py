# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Starts the pose node on a camera's topics: `ros2 launch face_pose_ros pose.launch.py`.

Several cameras: `cameras:=front,left` starts a node for each, in the namespaces front and left, on
topics of that name there; with `one_process:=true` they share networks and batches.
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
    """Pose nodes, and RViz if requested."""
    config = PathJoinSubstitution([SHARE, 'config', 'pose.yaml'])
    arguments = {
        'namespace': ('', 'namespace of all nodes'),
        'cameras': ('', 'namespaces of the cameras, separated by commas, within namespace'),
        'one_process': ('false', 'one process for all cameras, to share one GPU'),
        'image': ('image', 'topic of the camera image'),
        'camera_info': ('camera_info', 'topic of its CameraInfo'),
        'use_depth': ('', 'true or false: also use a depth image; empty: as in config'),
        'depth': ('depth', 'topic of the depth image'),
        'depth_camera_info': ('depth_camera_info', 'topic of its CameraInfo'),
        'depth_transport': (
            '',
            'raw; compressedDepth or compressed for <depth>/<transport>; empty: as in config',
        ),
        'image_transport': ('', 'raw, or compressed for <image>/compressed; empty: as in config'),
        'device': ('', "auto, cpu, cuda or 'cuda:<index>'; empty: as in config"),
        'config': (config, 'YAML file with all parameters'),
        'rviz': ('false', 'also start RViz, for the first camera'),
        'fixed_frame': ('', "RViz's Fixed Frame: the camera's frame; empty: the demo's"),
        'respawn': ('false', 'restart a pose node two seconds after it has ended'),
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
    """RViz if requested, and a node per camera."""
    # As text: a LaunchConfiguration would make a number of a device '0'.
    names = 'image_transport', 'depth_transport', 'device'
    texts = {n: LaunchConfiguration(n).perform(context) for n in names}
    # An empty argument keeps the config file's value.
    given: dict[str, object] = {name: text for name, text in texts.items() if text}
    use_depth = LaunchConfiguration('use_depth').perform(context)
    if use_depth:
        given['use_depth'] = IfCondition(use_depth).evaluate(context)
    namespace = LaunchConfiguration('namespace').perform(context)
    names = LaunchConfiguration('cameras').perform(context).replace(' ', '').split(',')
    cameras = [name for name in names if name] or ['']
    repeated = {camera for camera in cameras if cameras.count(camera) > 1}
    if repeated:
        raise ValueError(f'cameras: each once, got {", ".join(sorted(repeated))} more than once')
    namespaces = ['/'.join(name for name in (namespace, camera) if name) for camera in cameras]
    config = LaunchConfiguration('config').perform(context)
    if not Path(config).is_file():  # launch would start the node without it
        raise ValueError(f"config: no file '{config}'")
    topics = 'image', 'camera_info', 'depth', 'depth_camera_info'
    common = {
        'package': 'face_pose_ros',
        'parameters': [config, given],
        'remappings': [(n, LaunchConfiguration(n)) for n in topics],
        'output': 'screen',
        'respawn': IfCondition(LaunchConfiguration('respawn')).evaluate(context),
        'respawn_delay': 2.0,
    }
    if IfCondition(LaunchConfiguration('one_process')).evaluate(context):
        # A name of the process would apply to all its nodes.
        nodes = [Node(executable='multi_camera', arguments=namespaces, **common)]
    else:
        nodes = [
            Node(executable='pose_node', name='face_pose', namespace=name, **common)
            for name in namespaces
        ]
    # RViz first: if it is missing, nothing is started.
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
        # From the demo's names in face_pose.rviz to those of this node.
        remappings=[
            ('/face_pose/poses', 'face_pose/poses'),
            ('/face_pose/markers', 'face_pose/markers'),
            ('/face_pose/overlay', 'face_pose/overlay'),
        ],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
