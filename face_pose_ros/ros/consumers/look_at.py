# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points a pan-tilt unit at a head: poses in, joint commands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, Vector3
from numpy.typing import ArrayLike, NDArray
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from face_pose_ros.options import Checked, start_option
from face_pose_ros.ros.declaring import declare_options
from face_pose_ros.ros.frames import Frames, seconds_since
from face_pose_ros.ros.spinning import leave, run

# Camera with its optical axis along the x axis of a base with x forward, y left, z up (REP-103).
_T_BASE_CAM = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class LookAtParameters(Checked):
    """Parameters of `look_at`."""

    joints: tuple[str, str] = start_option(
        ('pan', 'tilt'), 'joint names: pan is positive to the left, tilt positive down'
    )
    base_frame: str = start_option(
        '', 'TF frame of the unit: x forward at zero angles, z up; empty: a fixed camera'
    )
    target_frame: str = start_option(
        '', 'TF frame to point at, such as face_f00001; empty: the topic face_pose/pose'
    )
    pan_range: tuple[float, float] = start_option(
        (-1.5, 1.5), 'lowest and highest pan', unit='rad'
    )
    tilt_range: tuple[float, float] = start_option(
        (-0.5, 0.5), 'lowest and highest tilt', unit='rad'
    )
    max_speed: float = start_option(
        1.0, 'speed limit of each joint', unit='rad/s', low=0.01, high=20
    )
    rate: float = start_option(50.0, 'commands per second', unit='Hz', low=1, high=1000)
    stale_after: float = start_option(
        0.5, 'commands stop this long after the last pose', unit='s', low=0.05, high=10
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('pan_range', 'tilt_range'):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f'{name} is {[low, high]}, expected the lower limit first')


def pan_tilt(xyz_base: ArrayLike) -> NDArray[np.float64]:
    """Pan, positive to the left, and tilt, positive down [rad], that point the x axis at a point.

    Args:
        xyz_base: The point (3,) in a frame with x forward, y left, z up, and the origin where the
            two axes of rotation cross.
    """
    x, y, z = np.asarray(xyz_base)
    return np.array([np.arctan2(y, x), np.arctan2(-z, np.hypot(x, y))])


def limit_rate(current: ArrayLike, goal: ArrayLike, max_step: float) -> NDArray[np.float64]:
    """The angles nearest to the goal with no joint moving by more than max_step."""
    return np.asarray(current) + np.clip(np.subtract(goal, current), -max_step, max_step)


class LookAt(Node):
    """Points two joints at the poses, or at one TF frame, with limited speed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('look_at', **kwargs)
        self._options = parameters = declare_options(self, LookAtParameters())
        self._low, self._high = np.transpose([parameters.pan_range, parameters.tilt_range])
        self._max_step = parameters.max_speed / parameters.rate

        self._frames = Frames(self)
        self._measured: NDArray[np.float64] | None = None  # joint angles
        self._command: NDArray[np.float64] | None = None  # None without a recent pose
        self._goal = np.zeros(2)
        self._goal_time: Time | None = None

        if parameters.target_frame:
            self.create_subscription(TFMessage, '/tf', self._on_tf, 100)
        else:
            self.create_subscription(PoseStamped, 'face_pose/pose', self._on_pose, 10)
        self.create_subscription(JointState, 'joint_states', self._on_joint_states, 10)
        self._commands = self.create_publisher(JointState, 'joint_commands', 10)
        self.create_timer(1 / parameters.rate, self._move)

    def _on_pose(self, msg: PoseStamped) -> None:
        self._aim(msg.header, msg.pose.position)

    def _on_tf(self, msg: TFMessage) -> None:
        for transform in msg.transforms:
            if transform.child_frame_id == self._options.target_frame:
                self._aim(transform.header, transform.transform.translation)

    def _on_joint_states(self, msg: JointState) -> None:
        angle = dict(zip(msg.name, msg.position, strict=False))  # positions may be left out
        measured = np.array([angle.get(name, np.nan) for name in self._options.joints])
        if np.isfinite(measured).all():  # broadcasters send NaN before the first measurement
            self._measured = measured

    def _aim(self, header: Header, position: Point | Vector3) -> None:
        """Set the goal to a point in the frame of the header, at the time of its stamp."""
        xyz1 = np.array([position.x, position.y, position.z, 1.0])
        try:
            if not np.isfinite(xyz1).all():
                raise ValueError(f'position {xyz1[:3]}, expected finite numbers')
            T_base_cam = _T_BASE_CAM
            if self._options.base_frame:
                # At the image's stamp: a camera on the joints has moved since then.
                T_base_cam = self._frames.lookup(
                    self._options.base_frame, header.frame_id, header.stamp
                )
        except ValueError as error:
            self.get_logger().warning(f'pose not used: {error}', throttle_duration_sec=5.0)
            return
        self._goal = np.clip(pan_tilt((T_base_cam @ xyz1)[:3]), self._low, self._high)
        self._goal_time = self.get_clock().now()

    def _move(self) -> None:
        """Command one step; without a recent pose send nothing, so that the joints stop."""
        if seconds_since(self, self._goal_time) > self._options.stale_after:
            self._command = None
            return
        # Start at the measured angles, then continue from the last command, so that the lag of the
        # joints does not add up.
        start = self._measured if self._command is None else self._command
        if start is None:
            self.get_logger().warning(
                f'no joint_states of {list(self._options.joints)} yet', throttle_duration_sec=5.0
            )
            return
        self._command = limit_rate(start, self._goal, self._max_step)
        # Stamped now: the command does not belong to an image.
        header = Header(stamp=self.get_clock().now().to_msg())
        self._commands.publish(
            JointState(
                header=header, name=list(self._options.joints), position=self._command.tolist()
            )
        )


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run('look_at', LookAt, args)
    leave(0)
