"""Says which person looks at the robot: poses with covariance in, that person's id out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.time import Time
from std_msgs.msg import String

from face_pose_ros.ros.consumers.frames import Frames
from face_pose_ros.ros.consumers.gaze import probability_in_cone, transform
from face_pose_ros.ros.consumers.running import parameter, run, seconds_since
from face_pose_ros.ros.declaring import close


@dataclass
class _Person:
    subscription: Subscription
    probability: float = 0.0  # that this person looks, in the newest pose
    time: Time | None = None  # when that pose came


class WhoLooks(Node):
    """Tests every person's head against a cone; the first who looks is named until they stop."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('who_looks', **kwargs)
        self._target_frame = parameter(self, 'target_frame', '', 'TF frame; empty: the camera')
        self._target_point = parameter(self, 'target_point', [0.0, 0.0, 0.0], 'in that frame [m]')
        cone_deg = parameter(self, 'cone_deg', 15.0, 'half angle of the cone [deg]', 1, 60)
        self._half_angle = np.radians(cone_deg)
        self._min_probability = parameter(
            self, 'min_probability', 0.5, 'of looking, to be named', 0.01, 0.99
        )
        self._stale_after_s = parameter(self, 'stale_after', 0.5, 'without a pose [s]', 0.05, 10)
        close(self)

        self._frames = Frames(self)
        self._people: dict[str, _Person] = {}
        self._looker = ''
        self._id_pub = self.create_publisher(String, '~/id', 10)
        self._pose_pub = self.create_publisher(PoseStamped, '~/pose', 10)
        self._faces = self.resolve_topic_name('face_pose/faces')
        self.create_timer(1.0, self._find_people)
        self.create_timer(0.1, self._decide)

    def _find_people(self) -> None:
        """Follow the topics that came and went: only their names and publishers tell of people."""
        pattern = re.compile(re.escape(self._faces) + '/([^/]+)/pose_with_covariance')
        for topic, _ in self.get_topic_names_and_types():
            match = pattern.fullmatch(topic)
            if not match:
                continue
            # Our own subscription keeps a topic's name alive: it is gone with its publisher.
            face_id, there = match[1], self.count_publishers(topic) > 0
            if there and face_id not in self._people:
                on_pose = partial(self._on_pose, face_id)
                self._people[face_id] = _Person(
                    self.create_subscription(PoseWithCovarianceStamped, topic, on_pose, 10)
                )
            elif not there and face_id in self._people:
                self.destroy_subscription(self._people.pop(face_id).subscription)

    def _on_pose(self, face_id: str, msg: PoseWithCovarianceStamped) -> None:
        pose, header = msg.pose.pose, msg.header
        target = np.array([*self._target_point, 1.0])
        try:
            T_cam_head = transform(pose.position, pose.orientation)
            if self._target_frame:
                T_cam_target = self._frames.lookup(
                    header.frame_id, self._target_frame, header.stamp
                )
                target = T_cam_target @ target
        except ValueError as error:
            self.get_logger().warning(f'{face_id}: {error}', throttle_duration_sec=5.0)
            return
        person = self._people[face_id]
        covariance = msg.pose.covariance.reshape(6, 6)
        person.probability = probability_in_cone(
            T_cam_head, covariance, target[:3], self._half_angle
        )
        person.time = self.get_clock().now()
        if face_id == self._looker:
            self._pose_pub.publish(PoseStamped(header=header, pose=pose))

    def _decide(self) -> None:
        """Name one person who looks, or nobody; never swing between two who both look."""
        probability = {
            face_id: person.probability
            for face_id, person in self._people.items()
            if seconds_since(self, person.time) <= self._stale_after_s
            and person.probability >= self._min_probability
        }
        if self._looker not in probability:
            self._looker = max(probability, key=lambda face_id: probability[face_id], default='')
        self._id_pub.publish(String(data=self._looker))


def main() -> None:
    """Run the node until it is interrupted."""
    run(WhoLooks)


if __name__ == '__main__':
    main()
