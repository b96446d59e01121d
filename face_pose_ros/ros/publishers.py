# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The outputs of the node: poses of the nearest face, of all and of each, TF, visualisation."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.ros import conversions
from face_pose_ros.ros.compat import HAS_HRI_MSGS, TransformBroadcaster
from face_pose_ros.ros.drawing.markers import face_markers
from face_pose_ros.ros.drawing.overlay import draw_overlay
from face_pose_ros.ros.pipeline import Answer
from face_pose_ros.ros.topics import advertise

if HAS_HRI_MSGS:
    from face_pose_ros.ros.hri import HriPublisher


class FacePublisher:
    """Publishes the faces of an image; every message carries the image's header."""

    def __init__(self, node: Node, tf: TransformBroadcaster) -> None:
        """Advertise the topics that do not depend on faces; /tf is the broadcaster's."""
        self._node = node
        self._of_poses = {
            topic: advertise(node, kind, f'~/{topic}')
            for topic, kind in (
                ('pose', PoseStamped),
                ('pose_with_covariance', PoseWithCovarianceStamped),
                ('poses', PoseArray),
            )
        }
        self._markers = advertise(node, MarkerArray, '~/markers')
        self._overlay = advertise(node, Image, '~/overlay')
        self._numbers: dict[str, int] = {}  # `FacePose.number` by id, of faces with topics
        self._hri = HriPublisher(node) if HAS_HRI_MSGS else None
        self._tf = tf
        self._model = deformable_face()

    def publish(
        self, answer: Answer, header: Header, known_ids: Iterable[str], with_tf: bool
    ) -> None:
        """Publish all faces of one image, if any.

        Args:
            answer: The faces of the image.
            header: Header of the image.
            known_ids: Ids of all tracks; the topics of other ids are removed.
            with_tf: Whether to send TF too.
        """
        faces = answer.faces
        transforms = conversions.face_transforms(faces, header) if with_tf else []
        if transforms:
            self._tf.sendTransform(transforms)
        self._numbers |= {face.id: face.number for face in faces}
        for topic, message in conversions.face_messages(faces, header):
            self._publisher_of(topic, type(message)).publish(message)
        known = set(known_ids)
        gone = self._numbers.keys() - known
        # Drawing is slow, so only for subscribers.
        if self._markers.get_subscription_count():
            numbers = [self._numbers[face_id] for face_id in gone]
            self._markers.publish(face_markers(faces, numbers, header, self._model))
        if self._overlay.get_subscription_count():
            self._overlay.publish(self._overlay_msg(answer, header))
        if self._hri:
            self._hri.publish(answer, header, known)
        self._withdraw(gone)

    def withdraw_all(self) -> None:
        """Remove the topics of all faces."""
        if self._hri:
            self._hri.withdraw_all()
        self._withdraw(set(self._numbers))

    def destroy(self) -> None:
        """Remove all topics."""
        self.withdraw_all()
        if self._hri:
            self._hri.destroy()
        for publisher in (*self._of_poses.values(), self._markers, self._overlay):
            self._node.destroy_publisher(publisher)

    def _overlay_msg(self, answer: Answer, header: Header) -> Image:
        caption = f'{len(answer.faces)} faces, {1e3 * answer.stages_s["estimate"]:.0f} ms'
        rgb = draw_overlay(answer.rgb, answer.faces, answer.camera, self._model, caption)
        return conversions.image_msg(rgb, 'rgb8', header)

    def _withdraw(self, ids: set[str]) -> None:
        for face_id in ids:
            del self._numbers[face_id]
            for name in ('pose', 'pose_with_covariance'):
                self._node.destroy_publisher(self._of_poses.pop(f'faces/{face_id}/{name}'))

    def _publisher_of(self, topic: str, kind: type) -> Publisher:
        if topic not in self._of_poses:  # of a new face
            self._of_poses[topic] = advertise(self._node, kind, f'~/{topic}', overridable=False)
        return self._of_poses[topic]
