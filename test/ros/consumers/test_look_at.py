# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""look_at: its angles and its rate by themselves, then with a robot whose camera turns along."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from geometry_msgs.msg import Point, PoseStamped, Quaternion, TransformStamped, Vector3
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from face_pose_ros.ros.consumers.look_at import LookAt, limit_rate, pan_tilt
from face_pose_ros.ros.declaring import ParameterError

R_BASE_CAM = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@pytest.mark.parametrize(
    ('xyz', 'expected_deg'),
    [
        ([1, 0, 0], [0, 0]),
        ([1, 1, 0], [45, 0]),  # to the left
        ([0, -2, 0], [-90, 0]),
        ([1, 0, 1], [0, -45]),  # upwards
        ([-1, 1e-9, 0], [180, 0]),
    ],
)
def test_pan_tilt(xyz, expected_deg):
    np.testing.assert_allclose(np.degrees(pan_tilt(xyz)), expected_deg, atol=1e-6)


def test_pan_tilt_turns_the_x_axis_to_the_point():
    for xyz in np.random.default_rng(0).normal(size=(50, 3)):
        pan, tilt = pan_tilt(xyz)
        axis = Rotation.from_euler('ZY', [pan, tilt]).as_matrix()[:, 0]
        np.testing.assert_allclose(axis, xyz / np.linalg.norm(xyz), atol=1e-12)


def test_limit_rate():
    np.testing.assert_allclose(limit_rate([0.0, 0.3], [1.0, 0.29], 0.05), [0.05, 0.29])
    np.testing.assert_allclose(limit_rate([0.0, 0.3], [-1.0, 0.1], 0.05), [-0.05, 0.25])


class Robot:
    """A pan-tilt unit that does what it is told, with a camera on it, before one person."""

    def __init__(self, ros, angles=None, camera_on_top=True, **parameters):
        self.look_at = ros.add(
            LookAt(
                context=ros.context,
                use_global_arguments=False,
                parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()],
            )
        )
        self.warnings = []
        self.look_at.get_logger = lambda: self
        self.node = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
        self.angles = angles or {'wheel': 5.0, 'tilt': 0.0, 'pan': 0.0}
        self.commands = []
        self.person_base = None  # [m]
        self._camera_on_top = camera_on_top
        self._states = self.node.create_publisher(JointState, 'joint_states', 10)
        self._tf = self.node.create_publisher(TFMessage, '/tf', 100)
        self._poses = self.node.create_publisher(PoseStamped, 'face_pose/pose', 10)
        self.node.create_subscription(JointState, 'joint_commands', self._on_command, 10)
        self.node.create_timer(0.02, self._publish)

    def warning(self, text, throttle_duration_sec):
        self.warnings.append(text)

    def _on_command(self, msg):
        self.commands.append(msg)
        self.angles |= zip(msg.name, msg.position, strict=True)

    def _publish(self):
        """Joint states, TF, and where the camera sees the person: all of the same moment."""
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id='camera')
        names, positions = list(self.angles), list(self.angles.values())
        self._states.publish(JointState(header=header, name=names, position=positions))
        R = R_BASE_CAM
        if self._camera_on_top:
            pan_tilt_now = [self.angles['pan'], self.angles['tilt']]
            R = Rotation.from_euler('ZY', pan_tilt_now).as_matrix() @ R
        camera = TransformStamped(child_frame_id='camera')
        camera.header = Header(stamp=header.stamp, frame_id='base')
        x, y, z, w = Rotation.from_matrix(R).as_quat()
        camera.transform.rotation = Quaternion(x=x, y=y, z=z, w=w)
        transforms = [camera]
        if self.person_base is not None:
            x, y, z = R.T @ self.person_base
            pose = PoseStamped(header=header)
            pose.pose.position = Point(x=x, y=y, z=z)
            self._poses.publish(pose)
            face = TransformStamped(header=header, child_frame_id='face_f00001')
            face.transform.translation = Vector3(x=x, y=y, z=z)
            transforms.append(face)
        self._tf.publish(TFMessage(transforms=transforms))

    def positions(self):
        return np.array([command.position for command in self.commands])

    def is_at(self, goal):
        return bool(self.commands) and np.allclose(self.commands[-1].position, goal, atol=1e-3)

    def silent_s(self):
        """Time since the last command [s]."""
        now = self.node.get_clock().now()
        return 1e-9 * (now - Time.from_msg(self.commands[-1].header.stamp)).nanoseconds


@pytest.mark.dds
@pytest.mark.parametrize('target_frame', ['', 'face_f00001'])
def test_turns_to_the_person_at_the_limited_rate(ros, target_frame):
    start = {'pan': -0.2, 'tilt': 0.1}
    robot = Robot(ros, dict(start), base_frame='base', max_speed=2.0, target_frame=target_frame)
    robot.person_base = np.array([1.0, 0.6, 0.3])
    goal = pan_tilt(robot.person_base)
    ros.wait_for(lambda: robot.is_at(goal))
    # The first command starts from where the joints were. The camera turned by 42 deg on the
    # way and the goal stayed where it was: no overshoot.
    path = np.vstack([list(start.values()), robot.positions()])
    assert np.abs(np.diff(path, axis=0)).max() == pytest.approx(2.0 / 50)
    assert path[:, 0].max() < goal[0] + 1e-3
    assert path[:, 1].min() > goal[1] - 1e-3
    assert robot.commands[0].name == ['pan', 'tilt']


@pytest.mark.dds
def test_stops_without_poses_and_starts_again_from_the_joints(ros):
    robot = Robot(ros, base_frame='base', max_speed=0.5, stale_after=0.3)
    robot.person_base = np.array([0.0, 1.0, 0.0])
    ros.wait_for(lambda: robot.commands)
    robot.person_base = None
    ros.wait_for(lambda: robot.silent_s() > 0.3)
    stopped = len(robot.commands)
    assert robot.angles['pan'] < 1.0  # of 1.5: it has not arrived, and does not go on
    robot.angles |= {'pan': 1.2, 'tilt': -0.4}  # somebody moves the joints
    ros.wait_for(lambda: np.allclose(robot.look_at._measured, [1.2, -0.4]))
    assert len(robot.commands) == stopped
    robot.person_base = np.array([0.0, 1.0, 0.0])
    ros.wait_for(lambda: len(robot.commands) > stopped)
    np.testing.assert_allclose(robot.commands[stopped].position, [1.21, -0.39], atol=1e-9)


@pytest.mark.dds
def test_a_fixed_camera_needs_no_tf_and_ranges_hold(ros):
    robot = Robot(ros, camera_on_top=False, pan_range=[-0.43, 0.3], max_speed=5.0)
    robot.person_base = np.array([1.0, -1.0, 0.2])
    ros.wait_for(lambda: robot.is_at([-0.43, pan_tilt(robot.person_base)[1]]))
    assert robot.positions()[:, 0].min() == -0.43


@pytest.mark.dds
@pytest.mark.parametrize(
    ('base_frame', 'angles', 'person', 'warning'),
    [
        ('', {'pan': 0.0, 'lift': 0.0}, [1.0, 0.0, 0.0], "no joint_states of ['pan', 'tilt'] yet"),
        ('torso', None, [1.0, 0.0, 0.0], "TF does not connect 'torso' and 'camera'"),
        ('', None, [1.0, np.nan, 0.0], 'expected finite numbers'),
    ],
)
def test_commands_nothing_when_something_is_missing(ros, base_frame, angles, person, warning):
    robot = Robot(ros, angles, camera_on_top=False, base_frame=base_frame)
    robot.person_base = np.array(person)
    ros.wait_for(lambda: any(warning in text for text in robot.warnings))
    assert robot.commands == []


@pytest.mark.dds
def test_joints_that_are_not_measured_yet_are_waited_for(ros):
    # joint_state_broadcaster sends NaN until the hardware has been read.
    robot = Robot(ros, {'pan': np.nan, 'tilt': 0.0}, camera_on_top=False, max_speed=5.0)
    robot.person_base = np.array([1.0, 0.3, 0.2])
    ros.wait_for(lambda: any('no joint_states' in text for text in robot.warnings))
    assert robot.commands == []
    robot.angles['pan'] = 0.1
    ros.wait_for(lambda: robot.is_at(pan_tilt(robot.person_base)))


@pytest.mark.dds
@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('max_speed', -1.0, 'max_speed'),
        ('max_speed', 'fast', 'max_speed'),
        ('pan_range', [0.5, -0.5], 'pan_range.*expected the lower limit first'),
        ('tilt_range', [0.5], r'tilt_range \(.*\[rad\]\) is \[0\.5\], expected 2 values'),
        ('joints', ['pan'], 'joints .* expected 2 values'),
    ],
)
def test_a_bad_parameter_is_named(ros, name, value, message):
    with pytest.raises(ParameterError, match=message):
        Robot(ros, **{name: value})
