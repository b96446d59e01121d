# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The outputs of the node: poses of the nearest face, of all and of each, TF, visualisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.results import FacePose
from face_pose_ros.ros import conversions
from face_pose_ros.ros.compat import HAS_HRI_MSGS, TransformBroadcaster
from face_pose_ros.ros.markers import face_markers
from face_pose_ros.ros.overlay import draw_overlay
from face_pose_ros.ros.pipeline import Answer
from face_pose_ros.ros.qos import advertise

if HAS_HRI_MSGS:
    from face_pose_ros.ros.hri import HriPublisher


class _Topics(NamedTuple):
    """Publishers of one face."""

    number: int  # `FacePose.number`
    pose: Publisher
    covariance: Publisher


class FacePublisher:
    """Publishes the faces of an image; every message carries the image's header."""

    def __init__(self, node: Node, tf: TransformBroadcaster) -> None:
        """Advertise the topics that do not depend on faces; /tf is the broadcaster's."""
        self._node = node
        self._pose = advertise(node, PoseStamped, '~/pose')
        self._covariance = advertise(node, PoseWithCovarianceStamped, '~/pose_with_covariance')
        self._poses = advertise(node, PoseArray, '~/poses')
        self._markers = advertise(node, MarkerArray, '~/markers')
        self._overlay = advertise(node, Image, '~/overlay')
        self._of_faces: dict[str, _Topics] = {}
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
        self._poses.publish(conversions.pose_array_msg(faces, header))
        if with_tf and faces and header.frame_id:  # TF needs a frame name
            self._tf.sendTransform(
                [t for face in faces for t in conversions.face_transforms(face, header)]
            )
        for face in faces:
            topics = self._topics_of(face)
            topics.pose.publish(conversions.pose_stamped_msg(face, header))
            topics.covariance.publish(conversions.pose_with_covariance_msg(face, header))
        if faces:
            primary = conversions.nearest_face(faces)
            self._pose.publish(conversions.pose_stamped_msg(primary, header))
            self._covariance.publish(conversions.pose_with_covariance_msg(primary, header))
        known = set(known_ids)
        gone = self._of_faces.keys() - known
        # Drawing is slow, so only for subscribers.
        if self._markers.get_subscription_count():
            numbers = [self._of_faces[face_id].number for face_id in gone]
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
        self._withdraw(set(self._of_faces))

    def destroy(self) -> None:
        """Remove all topics."""
        self.withdraw_all()
        if self._hri:
            self._hri.destroy()
        always = self._pose, self._covariance, self._poses, self._markers, self._overlay
        for publisher in always:
            self._node.destroy_publisher(publisher)

    def _overlay_msg(self, answer: Answer, header: Header) -> Image:
        caption = f'{len(answer.faces)} faces, {1e3 * answer.stages_s["estimate"]:.0f} ms'
        rgb = draw_overlay(answer.rgb, answer.faces, answer.camera, self._model, caption)
        return conversions.image_msg(rgb, 'rgb8', header)

    def _withdraw(self, ids: set[str]) -> None:
        for face_id in ids:
            _, *publishers = self._of_faces.pop(face_id)
            for publisher in publishers:
                self._node.destroy_publisher(publisher)

    def _topics_of(self, face: FacePose) -> _Topics:
        if face.id not in self._of_faces:
            topic = f'~/faces/{face.id}/pose'
            self._of_faces[face.id] = _Topics(
                face.number,
                advertise(self._node, PoseStamped, topic, overridable=False),
                advertise(
                    self._node,
                    PoseWithCovarianceStamped,
                    f'{topic}_with_covariance',
                    overridable=False,
                ),
            )
        return self._of_faces[face.id]
