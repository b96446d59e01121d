# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Topics, services and parameters of every executable; docs/ros_api.md is generated from it.

`test/ros/test_api.py` compares the tables with running nodes.
"""

from __future__ import annotations

from typing import NamedTuple

from face_pose_ros.ros.consumers.look_at import LookAtParameters
from face_pose_ros.ros.consumers.who_looks import WhoLooksParameters
from face_pose_ros.ros.demo.demo_camera import DemoCameraParameters
from face_pose_ros.ros.demo.output import OutputParameters
from face_pose_ros.ros.parameters import Parameters
from face_pose_ros.ros.view.parameters import ViewParameters


class Topic(NamedTuple):
    """A topic or a service."""

    name: str  # as in the code; <id>: id of a track
    type: str  # package/Type
    text: str
    optional: bool = False  # depends on parameters or on installed packages


class Executable(NamedTuple):
    """A node that `ros2 run face_pose_ros` starts."""

    name: str
    node: str
    text: str
    subscribed: tuple[Topic, ...]
    published: tuple[Topic, ...]
    parameters: object  # dataclass with options
    services: tuple[Topic, ...] = ()


_TF = Topic('/tf', 'tf2_msgs/TFMessage', 'frames of the robot')
_TF_STATIC = Topic('/tf_static', 'tf2_msgs/TFMessage', 'the same')
_POSE = Topic('face_pose/pose', 'geometry_msgs/PoseStamped', 'the head nearest to the camera')
_IMAGE = Topic('image', 'sensor_msgs/Image', 'as for the pose node')
_INFO = Topic('camera_info', 'sensor_msgs/CameraInfo', 'as for the pose node')

EXECUTABLES = (
    Executable(
        'pose_node',
        'face_pose',
        'Poses of all heads in the images of one camera. A managed (lifecycle) node that '
        'configures and activates itself unless `autostart` is false.',
        (
            Topic('image', 'sensor_msgs/Image', 'sensor data QoS; see docs/cameras.md'),
            Topic(
                'image/compressed',
                'sensor_msgs/CompressedImage',
                'instead of it, with `image_transport: compressed`',
                optional=True,
            ),
            Topic(
                'camera_info',
                'sensor_msgs/CameraInfo',
                'paired by equal stamp; by the nearest within 1 ms if stamps are never equal',
            ),
            Topic(
                'depth',
                'sensor_msgs/Image',
                '16UC1 in mm or 32FC1 in m, with `use_depth`; see docs/depth.md',
                optional=True,
            ),
            Topic(
                'depth/compressedDepth',
                'sensor_msgs/CompressedImage',
                'instead of it, with `depth_transport: compressedDepth`',
                optional=True,
            ),
            Topic(
                'depth/compressed',
                'sensor_msgs/CompressedImage',
                'likewise, with `depth_transport: compressed`; PNG only',
                optional=True,
            ),
            Topic(
                'depth_camera_info',
                'sensor_msgs/CameraInfo',
                'calibration of the depth camera; the newest one is used',
                optional=True,
            ),
            Topic(
                '/tf', 'tf2_msgs/TFMessage', 'if the depth camera has another frame', optional=True
            ),
            Topic('/tf_static', 'tf2_msgs/TFMessage', 'the same', optional=True),
        ),
        (
            Topic('~/pose', 'geometry_msgs/PoseStamped', 'the head nearest to the camera'),
            Topic('~/pose_with_covariance', 'geometry_msgs/PoseWithCovarianceStamped', 'the same'),
            Topic('~/poses', 'geometry_msgs/PoseArray', 'all heads; empty if there is none'),
            Topic(
                '~/faces/<id>/pose',
                'geometry_msgs/PoseStamped',
                'one head; the topic is removed with its track',
                optional=True,
            ),
            Topic(
                '~/faces/<id>/pose_with_covariance',
                'geometry_msgs/PoseWithCovarianceStamped',
                'the same',
                optional=True,
            ),
            Topic(
                '/tf',
                'tf2_msgs/TFMessage',
                "`face_<id>` and `gaze_<id>`, children of the image's frame",
            ),
            Topic(
                '~/markers',
                'visualization_msgs/MarkerArray',
                'mesh, axes, gaze, 2 sigma ellipsoid, id, distance; only for subscribers',
            ),
            Topic(
                '~/overlay',
                'sensor_msgs/Image',
                'the image with heads; only for subscribers',
            ),
            Topic(
                '/diagnostics',
                'diagnostic_msgs/DiagnosticArray',
                'status of camera, poses and device, once a second, in every state',
            ),
            Topic('~/transition_event', 'lifecycle_msgs/TransitionEvent', 'changes of the state'),
            Topic(
                '/humans/faces/tracked',
                'hri_msgs/IdsList',
                'REP-155, if `hri_msgs` is installed; see docs/consumers.md',
                optional=True,
            ),
            Topic(
                '/humans/faces/<id>/roi',
                'hri_msgs/NormalizedRegionOfInterest2D',
                'the same',
                optional=True,
            ),
            Topic(
                '/humans/faces/<id>/landmarks',
                'hri_msgs/FacialLandmarks',
                'the same; only for subscribers',
                optional=True,
            ),
            Topic(
                '/humans/faces/<id>/cropped',
                'sensor_msgs/Image',
                'the same; only for subscribers',
                optional=True,
            ),
        ),
        Parameters(),
        (
            Topic('~/change_state', 'lifecycle_msgs/ChangeState', 'configure, activate, ...'),
            Topic('~/get_state', 'lifecycle_msgs/GetState', ''),
            Topic('~/get_available_states', 'lifecycle_msgs/GetAvailableStates', ''),
            Topic('~/get_available_transitions', 'lifecycle_msgs/GetAvailableTransitions', ''),
            Topic('~/get_transition_graph', 'lifecycle_msgs/GetAvailableTransitions', ''),
        ),
    ),
    Executable(
        'look_at',
        'look_at',
        'Points a pan-tilt unit at a head; see docs/consumers.md.',
        (
            _POSE._replace(text='the head to point at', optional=True),
            Topic('joint_states', 'sensor_msgs/JointState', 'measured angles of the joints'),
            _TF,
            _TF_STATIC,
        ),
        (
            Topic(
                'joint_commands',
                'sensor_msgs/JointState',
                'positions of the two joints [rad], stamped when sent',
            ),
        ),
        LookAtParameters(),
    ),
    Executable(
        'who_looks',
        'who_looks',
        'Publishes the id of the person whose head points at the robot; see docs/consumers.md.',
        (
            Topic(
                'face_pose/faces/<id>/pose_with_covariance',
                'geometry_msgs/PoseWithCovarianceStamped',
                'one head',
                optional=True,
            ),
            _TF,
            _TF_STATIC,
        ),
        (
            Topic('~/id', 'std_msgs/String', 'at 10 Hz: id of the person; empty if there is none'),
            Topic('~/pose', 'geometry_msgs/PoseStamped', "that person's head"),
        ),
        WhoLooksParameters(),
    ),
    Executable(
        'face_pose_view',
        'face_pose_view',
        'Draws poses and images with the rerun SDK; see docs/view.md.',
        (
            _IMAGE,
            _INFO,
            Topic('face_pose/poses', 'geometry_msgs/PoseArray', 'stamps of processed images'),
            Topic('face_pose/markers', 'visualization_msgs/MarkerArray', 'the heads to draw'),
        ),
        (),
        ViewParameters(),
    ),
    Executable(
        'demo_camera',
        'demo_camera',
        'A camera without a driver; see docs/calibration.md.',
        (
            Topic(
                'face_pose/poses',
                'geometry_msgs/PoseArray',
                'processed images, with `with_node`',
            ),
        ),
        (
            Topic('image', 'sensor_msgs/Image', 'rgb8'),
            Topic('camera_info', 'sensor_msgs/CameraInfo', 'its calibration'),
            Topic(
                'depth', 'sensor_msgs/Image', 'aligned to the image, with `depth`', optional=True
            ),
            Topic('depth_camera_info', 'sensor_msgs/CameraInfo', 'the same', optional=True),
            Topic(
                '/tf',
                'tf2_msgs/TFMessage',
                'virtual camera only: `world` to the camera and to `portrait_<name>`',
            ),
        ),
        DemoCameraParameters(),
    ),
    Executable(
        'demo_checker',
        'demo_checker',
        'Compares poses with the known rotation of the virtual camera; writes a video.',
        (_IMAGE, _INFO, _POSE, _TF._replace(text='poses and true rotation')),
        (),
        OutputParameters(),
    ),
    Executable(
        'demo_recorder',
        'demo_recorder',
        'Records the overlay of a real camera and counts processed images.',
        (
            _INFO,
            Topic('face_pose/poses', 'geometry_msgs/PoseArray', 'processed images'),
            Topic('face_pose/overlay', 'sensor_msgs/Image', 'the recorded images'),
        ),
        (),
        OutputParameters(),
    ),
)
