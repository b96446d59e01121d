# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads images and their CameraInfo from a recording, paired as in the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from rosbags.interfaces import Connection
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from face_pose_ros.ros.bag.storage import BagError, Storage, unreadable
from face_pose_ros.ros.camera_sync import CameraSync

_IMAGES = {'sensor_msgs/msg/Image': Image, 'sensor_msgs/msg/CompressedImage': CompressedImage}
_INFOS = {'sensor_msgs/msg/CameraInfo': CameraInfo}


class Recording:
    """One recording: an .mcap or .db3 file, or the folder that ros2 bag makes."""

    def __init__(self, path: Path, image_topic: str = '', info_topic: str = '') -> None:
        """Open the recording and select the topics.

        Args:
            path: The recording.
            image_topic: Empty: the only one with images, raw or compressed.
            info_topic: Empty: the only one with CameraInfo.

        Raises:
            BagError: It cannot be read, or the topics are missing or ambiguous.
        """
        self.path = path
        self._storage = Storage(path)
        try:
            self._images = self._on_one_topic(_IMAGES, image_topic, '--image')
            self._infos = self._on_one_topic(_INFOS, info_topic, '--camera-info')
        except BagError:
            self.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._storage.close()

    @property
    def image_topic(self) -> str:
        """Topic of the images."""
        return str(self._images[0].topic)

    @property
    def info_topic(self) -> str:
        """Topic of CameraInfo."""
        return str(self._infos[0].topic)

    @property
    def image_count(self) -> int:
        """Number of images, paired or not."""
        return sum(int(c.msgcount) for c in self._images)

    def pairs(
        self, latched: bool = False
    ) -> Iterator[tuple[int, Image | CompressedImage, CameraInfo]]:
        """Images and CameraInfos of equal stamp, and the later recording time of both [ns].

        Args:
            latched: Whether the newest CameraInfo is that of every image, whatever its stamp.

        Raises:
            BagError: The recording is damaged.
        """
        ready: list[tuple[Image | CompressedImage, CameraInfo]] = []
        sync: CameraSync[Image | CompressedImage] = CameraSync(
            lambda image, info: ready.append((image, info)), lambda *_: None, latched=latched
        )
        for connection, time_ns, data in self._storage.messages([*self._images, *self._infos]):
            kind = connection.msgtype
            try:
                message = deserialize_message(data, (_IMAGES | _INFOS)[kind])
            except Exception as error:  # raised by rclpy for broken messages
                raise unreadable(self.path, error) from error
            if kind in _IMAGES:
                sync.add_image(message)
            else:
                sync.add_info(message)
            if ready:
                yield time_ns, *ready.pop()

    def _on_one_topic(self, kinds: dict[str, Any], topic: str, option: str) -> list[Connection]:
        """Connections, in all parts, of this topic or of the only one with these types."""
        names = ' or '.join(kinds)
        connections = [c for c in self._storage.connections if c.msgtype in kinds]
        found = [c for c in connections if c.msgcount]
        topics = ', '.join(sorted({c.topic for c in found or connections}))
        if not connections:
            raise BagError(f'{self.path}: no messages of type {names}')
        if not found:
            raise BagError(
                f'{self.path}: no messages of type {names}, though {topics} is listed; if there '
                'should be some in this .mcap, mcap recover rebuilds its index'
            )
        chosen = [c for c in found if c.topic == (topic or topics)]
        if topic and not chosen:
            raise BagError(
                f'{self.path}: no messages of type {names} on {topic}, only on {topics}'
            )
        if not chosen:
            raise BagError(f'{self.path}: choose one of {topics} with {option}')
        for connection in chosen:
            encoding = getattr(connection.ext, 'serialization_format', '')
            if encoding != 'cdr':
                raise BagError(
                    f"{self.path}: messages on {connection.topic} are '{encoding}', expected 'cdr'"
                )
        return chosen
