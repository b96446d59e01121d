"""The node's outputs: topics for the nearest face, for all, for each, and TF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header

from face_pose_ros.estimator import FacePose
from face_pose_ros.ros import conversions
from face_pose_ros.ros.compat import TransformBroadcaster


class FacePublisher:
    """Publishes the faces of an image; every message carries the image's header."""

    def __init__(self, node: Node, tf: TransformBroadcaster) -> None:
        """Advertise the topics that are always there, besides the broadcaster's /tf."""
        self._node = node
        self._pose = self._publisher(PoseStamped, '~/pose')
        self._covariance = self._publisher(PoseWithCovarianceStamped, '~/pose_with_covariance')
        self._poses = self._publisher(PoseArray, '~/poses')
        self._of_faces: dict[str, tuple[Publisher, Publisher]] = {}
        self._tf = tf

    def publish(self, faces: Sequence[FacePose], header: Header, with_tf: bool) -> None:
        """Tell of all faces of one image, none included."""
        self._poses.publish(conversions.pose_array_msg(faces, header))
        if with_tf and faces:
            self._tf.sendTransform(
                [t for face in faces for t in conversions.face_transforms(face, header)]
            )
        for face in faces:
            pose_pub, covariance_pub = self._publishers_of(face.id)
            pose_pub.publish(conversions.pose_stamped_msg(face, header))
            covariance_pub.publish(conversions.pose_with_covariance_msg(face, header))
        if faces:
            # The primary face: whoever stands nearest.
            nearest = min(faces, key=lambda face: float(np.linalg.norm(face.T_cam_head[:3, 3])))
            self._pose.publish(conversions.pose_stamped_msg(nearest, header))
            self._covariance.publish(conversions.pose_with_covariance_msg(nearest, header))

    def withdraw_all_but(self, ids: Iterable[str]) -> None:
        """Take away the topics of faces that are known no more."""
        for lost in self._of_faces.keys() - set(ids):
            for publisher in self._of_faces.pop(lost):
                self._node.destroy_publisher(publisher)

    def destroy(self) -> None:
        """Take the topics away again."""
        self.withdraw_all_but(())
        for publisher in (self._pose, self._covariance, self._poses):
            self._node.destroy_publisher(publisher)

    def _publishers_of(self, face_id: str) -> tuple[Publisher, Publisher]:
        if face_id not in self._of_faces:
            self._of_faces[face_id] = (
                self._node.create_publisher(PoseStamped, f'~/faces/{face_id}/pose', 10),
                self._node.create_publisher(
                    PoseWithCovarianceStamped, f'~/faces/{face_id}/pose_with_covariance', 10
                ),
            )
        return self._of_faces[face_id]

    def _publisher(self, kind: type, topic: str) -> Publisher:
        return self._node.create_publisher(
            kind,
            topic,
            10,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
