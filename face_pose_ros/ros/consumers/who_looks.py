# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes the id of the person who looks at the robot, from poses with covariance."""

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

from face_pose_ros.options import Checked, start_option
from face_pose_ros.ros.consumers.gaze import probability_in_cone
from face_pose_ros.ros.conversions import transform
from face_pose_ros.ros.declaring import declare_options
from face_pose_ros.ros.frames import Frames, seconds_since
from face_pose_ros.ros.spinning import leave, run


@dataclass(frozen=True)
class WhoLooksParameters(Checked):
    """Parameters of `who_looks`."""

    target_frame: str = start_option('', 'TF frame of target_point; empty: the camera')
    target_point: tuple[float, float, float] = start_option(
        (0.0, 0.0, 0.0), 'target point of the heads, in target_frame', unit='m'
    )
    cone_deg: float = start_option(
        15.0, "half angle of the cone around the head's x axis", unit='deg', low=1, high=60
    )
    min_probability: float = start_option(
        0.5, 'minimum probability that target_point is inside the cone', low=0.01, high=0.99
    )
    stale_after: float = start_option(
        0.5, 'a person counts for this time after the last pose', unit='s', low=0.05, high=10
    )


@dataclass
class _Person:
    subscription: Subscription
    probability: float = 0.0  # that the head points at the target, from the newest pose
    time: Time | None = None  # arrival of that pose


class WhoLooks(Node):
    """Publishes the id of a person whose head points at the target, until it stops doing so."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('who_looks', **kwargs)
        self._options = declare_options(self, WhoLooksParameters())
        self._half_angle = np.radians(self._options.cone_deg)

        self._frames = Frames(self)
        self._people: dict[str, _Person] = {}
        self._looker = ''
        self._id_pub = self.create_publisher(String, '~/id', 10)
        self._pose_pub = self.create_publisher(PoseStamped, '~/pose', 10)
        self._faces = self.resolve_topic_name('face_pose/faces')
        self.create_timer(1.0, self._find_people)
        self.create_timer(0.1, self._decide)

    def _find_people(self) -> None:
        """Subscribe to new per-face topics and unsubscribe from removed ones."""
        pattern = re.compile(re.escape(self._faces) + '/([^/]+)/pose_with_covariance')
        for topic, _ in self.get_topic_names_and_types():
            match = pattern.fullmatch(topic)
            if not match:
                continue
            # This node's subscription keeps the topic listed, so count its publishers.
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
        target = np.array([*self._options.target_point, 1.0])
        try:
            T_cam_head = transform(pose.position, pose.orientation)
            if self._options.target_frame:
                T_cam_target = self._frames.lookup(
                    header.frame_id, self._options.target_frame, header.stamp
                )
                target = T_cam_target @ target
            probability = probability_in_cone(
                T_cam_head, msg.pose.covariance.reshape(6, 6), target[:3], self._half_angle
            )
        except ValueError as error:
            self.get_logger().warning(f'{face_id}: {error}', throttle_duration_sec=5.0)
            return
        person = self._people[face_id]
        person.probability = probability
        person.time = self.get_clock().now()
        if face_id == self._looker:
            self._pose_pub.publish(PoseStamped(header=header, pose=pose))

    def _decide(self) -> None:
        """Publish the id of one such person, or an empty one; keep it while it holds."""
        probability = {
            face_id: person.probability
            for face_id, person in self._people.items()
            if seconds_since(self, person.time) <= self._options.stale_after
            and person.probability >= self._options.min_probability
        }
        if self._looker not in probability:
            self._looker = max(probability, key=lambda face_id: probability[face_id], default='')
        self._id_pub.publish(String(data=self._looker))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run('who_looks', WhoLooks, args)
    leave(0)
