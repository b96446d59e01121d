"""Turns a pan-tilt unit so that it looks at a head: poses in, joint commands out."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, Vector3
from numpy.typing import ArrayLike, NDArray
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from face_pose_ros.ros.consumers.frames import Frames
from face_pose_ros.ros.consumers.running import parameter, run, seconds_since
from face_pose_ros.ros.declaring import ParameterError, close

# A camera that looks along the x axis of a base with x forward, y left, z up (REP-103).
_T_BASE_CAM = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])


def pan_tilt(xyz_base: ArrayLike) -> NDArray[np.float64]:
    """Pan, positive to the left, and tilt, positive down [rad], that point the x axis at a point.

    Args:
        xyz_base: The point (3,) in a frame with x forward, y left, z up, and the origin where the
            two axes of rotation cross.
    """
    x, y, z = np.asarray(xyz_base)
    return np.array([np.arctan2(y, x), np.arctan2(-z, np.hypot(x, y))])


def limit_rate(current: ArrayLike, goal: ArrayLike, max_step: float) -> NDArray[np.float64]:
    """Angles nearest to the goal that no joint needs to move further than max_step for."""
    return np.asarray(current) + np.clip(np.subtract(goal, current), -max_step, max_step)


class LookAt(Node):
    """Follows the poses, or one TF frame, with two joints at a limited rate."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('look_at', **kwargs)
        self._joints = parameter(self, 'joints', ['pan', 'tilt'], 'names: left, down')
        self._target_frame = parameter(self, 'target_frame', '', 'TF frame; empty: topic pose')
        self._base_frame = parameter(self, 'base_frame', '', 'TF frame; empty: a fixed camera')
        pan = parameter(self, 'pan_range', [-1.5, 1.5], 'least and largest pan [rad]')
        tilt = parameter(self, 'tilt_range', [-0.5, 0.5], 'least and largest tilt [rad]')
        self._low, self._high = np.transpose([pan, tilt])
        if not (self._low < self._high).all():
            raise ParameterError(
                f'parameters pan_range, tilt_range: {pan}, {tilt}, expected the least first'
            )
        speed = parameter(self, 'max_speed', 1.0, 'of each joint [rad/s]', 0.01, 20)
        rate = parameter(self, 'rate', 50.0, 'commands in a second [Hz]', 1, 1000)
        self._max_step = speed / rate
        self._stale_after_s = parameter(self, 'stale_after', 0.5, 'without a pose [s]', 0.05, 10)
        close(self)

        self._frames = Frames(self)
        self._measured: NDArray[np.float64] | None = None  # where the joints are
        self._command: NDArray[np.float64] | None = None  # None while there is nobody to follow
        self._goal = np.zeros(2)
        self._goal_time: Time | None = None

        if self._target_frame:
            self.create_subscription(TFMessage, '/tf', self._on_tf, 100)
        else:
            self.create_subscription(PoseStamped, 'face_pose/pose', self._on_pose, 10)
        self.create_subscription(JointState, 'joint_states', self._on_joint_states, 10)
        self._commands = self.create_publisher(JointState, 'joint_commands', 10)
        self.create_timer(1 / rate, self._move)

    def _on_pose(self, msg: PoseStamped) -> None:
        self._aim(msg.header, msg.pose.position)

    def _on_tf(self, msg: TFMessage) -> None:
        for transform in msg.transforms:
            if transform.child_frame_id == self._target_frame:
                self._aim(transform.header, transform.transform.translation)

    def _on_joint_states(self, msg: JointState) -> None:
        angle = dict(zip(msg.name, msg.position, strict=False))  # positions may be left out
        if all(name in angle for name in self._joints):
            self._measured = np.array([angle[name] for name in self._joints])

    def _aim(self, header: Header, position: Point | Vector3) -> None:
        """Set the goal to a point in the frame of the header, at the time of its stamp."""
        xyz1 = np.array([position.x, position.y, position.z, 1.0])
        try:
            if not np.isfinite(xyz1).all():
                raise ValueError(f'position {xyz1[:3]}, expected finite numbers')
            T_base_cam = _T_BASE_CAM
            if self._base_frame:
                # At the image's stamp: a camera that turns with the joints has moved since.
                T_base_cam = self._frames.lookup(self._base_frame, header.frame_id, header.stamp)
        except ValueError as error:
            self.get_logger().warning(f'pose not used: {error}', throttle_duration_sec=5.0)
            return
        self._goal = np.clip(pan_tilt((T_base_cam @ xyz1)[:3]), self._low, self._high)
        self._goal_time = self.get_clock().now()

    def _move(self) -> None:
        """Command one step; without a recent pose nothing, and the joints stay where they are."""
        if seconds_since(self, self._goal_time) > self._stale_after_s:
            self._command = None
            return
        # First from where the joints are, then from the last command: their lag does not matter.
        start = self._measured if self._command is None else self._command
        if start is None:
            self.get_logger().warning(
                f'no joint_states of {list(self._joints)} yet', throttle_duration_sec=5.0
            )
            return
        self._command = limit_rate(start, self._goal, self._max_step)
        # Stamped now: a command is no measurement of the image.
        header = Header(stamp=self.get_clock().now().to_msg())
        self._commands.publish(
            JointState(header=header, name=self._joints, position=self._command.tolist())
        )


def main() -> None:
    """Run the node until it is interrupted."""
    run(LookAt)


if __name__ == '__main__':
    main()
