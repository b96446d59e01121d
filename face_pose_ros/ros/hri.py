# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes faces on the topics of REP-155, with the messages of the package hri_msgs.

This module can only be imported if `compat.HAS_HRI_MSGS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from hri_msgs.msg import (
    FacialLandmarks,
    IdsList,
    NormalizedPointOfInterest2D,
    NormalizedRegionOfInterest2D,
)
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.openpose import OPENPOSE_70
from face_pose_ros.results import FacePose
from face_pose_ros.ros.conversions import image_msg
from face_pose_ros.ros.drawing.draw import fitted
from face_pose_ros.ros.pipeline import Answer
from face_pose_ros.ros.topics import advertise

_FACES = '/humans/faces'  # REP-155: the same for all nodes of a robot
_CROP_PX = 128  # REP-155's default width and height of `cropped`
_POINTS = list(OPENPOSE_70)


class _Topics(NamedTuple):
    """Publishers of one face."""

    roi: Publisher
    landmarks: Publisher
    cropped: Publisher


class HriPublisher:
    """Publishes the faces of an image; every message carries the image's header."""

    def __init__(self, node: Node) -> None:
        """Advertise the list of faces."""
        self._node = node
        self._tracked = advertise(node, IdsList, f'{_FACES}/tracked')
        self._of_faces: dict[str, _Topics] = {}
        self._header = Header()  # of the last image

    def publish(self, answer: Answer, header: Header, known_ids: Iterable[str]) -> None:
        """Publish all faces of one image, and the ids of all tracks.

        Args:
            answer: The faces of the image.
            header: Header of the image.
            known_ids: Ids of all tracks; the topics of other ids are removed.
        """
        self._header = header
        for face in answer.faces:
            topics = self._topics_of(face.id)
            topics.roi.publish(roi_msg(face, answer.camera, header))
            # 8 and 30 times slower than the region, so only for subscribers.
            if topics.landmarks.get_subscription_count():
                topics.landmarks.publish(landmarks_msg(face, answer.camera, header))
            if topics.cropped.get_subscription_count():
                topics.cropped.publish(cropped_msg(face, answer.rgb, header))
        self._keep(set(known_ids))

    def withdraw_all(self) -> None:
        """Publish an empty list and remove the topics of all faces."""
        if self._of_faces:
            self._keep(set())

    def destroy(self) -> None:
        """Remove all topics."""
        self.withdraw_all()
        self._node.destroy_publisher(self._tracked)

    def _keep(self, ids: set[str]) -> None:
        """Publish these ids, and remove the topics of all others."""
        self._tracked.publish(IdsList(header=self._header, ids=sorted(ids)))
        for face_id in self._of_faces.keys() - ids:
            for publisher in self._of_faces.pop(face_id):
                self._node.destroy_publisher(publisher)

    def _topics_of(self, face_id: str) -> _Topics:
        if face_id not in self._of_faces:
            kinds = NormalizedRegionOfInterest2D, FacialLandmarks, Image
            self._of_faces[face_id] = _Topics(
                *(
                    advertise(self._node, kind, f'{_FACES}/{face_id}/{name}', overridable=False)
                    for name, kind in zip(_Topics._fields, kinds, strict=True)
                )
            )
        return self._of_faces[face_id]


def roi_msg(face: FacePose, camera: Camera, header: Header) -> NormalizedRegionOfInterest2D:
    """A face's box, clipped to the image."""
    corners = _share_of_image(face.box_xyxy.reshape(2, 2), camera).clip(0, 1)
    x_min, y_min, x_max, y_max = corners.ravel().tolist()
    return NormalizedRegionOfInterest2D(
        header=header, xmin=x_min, ymin=y_min, xmax=x_max, ymax=y_max, c=face.score
    )


def landmarks_msg(face: FacePose, camera: Camera, header: Header) -> FacialLandmarks:
    """A face's 70 landmarks; those outside the image are moved to its border, confidence 0."""
    share = _share_of_image(face.keypoints_uv[_POINTS], camera)
    seen = (share == share.clip(0, 1)).all(-1) & np.isfinite(face.keypoints_sigma_px[_POINTS])
    points = np.column_stack([share.clip(0, 1), np.where(seen, face.score, 0.0)])
    return FacialLandmarks(
        header=header,
        landmarks=[NormalizedPointOfInterest2D(x=x, y=y, c=c) for x, y, c in points.tolist()],
        height=camera.height,
        width=camera.width,
    )


def cropped_msg(face: FacePose, rgb: NDArray[np.uint8], header: Header) -> Image:
    """A face's region of interest, 128 x 128 px.

    bgr8, because consumers of this topic ignore the encoding and read the bytes as OpenCV does.
    """
    return image_msg(crop_face(rgb, face.box_xyxy)[..., ::-1], 'bgr8', header)


def crop_face(rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A box clipped to the image, scaled to fit, centred, with a zero border.

    Args:
        rgb: (H, W, 3) uint8.
        box_xyxy: (4,) px.

    Returns:
        (128, 128, 3) uint8.
    """
    last = np.array([rgb.shape[1], rgb.shape[0]]) - 1
    left, top = box_xyxy[:2].round().clip(0, last).astype(int)
    right, bottom = box_xyxy[2:].round().clip(0, last).astype(int)
    return fitted(rgb[top : bottom + 1, left : right + 1], _CROP_PX, _CROP_PX)


def _share_of_image(uv: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    """Pixels (..., 2) as shares of the image's width and height, from its top left corner."""
    return (uv + 0.5) / (camera.width, camera.height)
