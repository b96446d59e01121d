"""Images and their calibrations out of a recording, paired as the node pairs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from face_pose_ros.ros.camera_sync import CameraSync

_IMAGES = {'sensor_msgs/msg/Image': Image, 'sensor_msgs/msg/CompressedImage': CompressedImage}
_INFOS = {'sensor_msgs/msg/CameraInfo': CameraInfo}


class BagError(ValueError):
    """A recording that can't be used; the text names the file and what was expected."""


class Recording:
    """One recording: an .mcap or .db3 file, or the folder that ros2 bag makes."""

    def __init__(self, path: Path, image_topic: str = '', info_topic: str = '') -> None:
        """Open it and choose the topics.

        Args:
            path: The recording.
            image_topic: Empty: the only one with images, raw or compressed.
            info_topic: Empty: the only one with CameraInfo.

        Raises:
            BagError: It can't be read, or the topics are not there or not clear.
        """
        self.path = path
        if not path.exists():
            raise BagError(f'{path}: no such file or folder')
        try:
            self._reader = Reader(path)
            self._reader.open()
        # rosbags stumbles over damaged files in many ways: its own errors, struct's, sqlite's.
        except Exception as error:
            raise BagError(_unreadable(path, error)) from error
        try:
            self._image = self._only(_IMAGES, image_topic, '--image')
            self._info = self._only(_INFOS, info_topic, '--camera-info')
        except BagError:
            self.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    @property
    def image_topic(self) -> str:
        """Where the images are."""
        return str(self._image.topic)

    @property
    def info_topic(self) -> str:
        """Where their calibrations are."""
        return str(self._info.topic)

    @property
    def image_count(self) -> int:
        """Images recorded, paired or not."""
        return int(self._image.msgcount)

    def pairs(self) -> Iterator[tuple[int, Image | CompressedImage, CameraInfo]]:
        """Images and calibrations of equal stamp, and when the second of both was recorded [ns].

        Raises:
            BagError: The recording is damaged.
        """
        ready: list[tuple[Image | CompressedImage, CameraInfo]] = []
        sync: CameraSync[Image | CompressedImage] = CameraSync(
            lambda image, info: ready.append((image, info)), lambda image: None
        )
        for connection, time_ns, message in self._messages():
            if connection is self._image:
                sync.add_image(message)
            else:
                sync.add_info(message)
            if ready:
                yield time_ns, *ready.pop()

    def _messages(self) -> Iterator[tuple[Connection, int, Any]]:
        kinds = _IMAGES | _INFOS
        messages = self._reader.messages([self._image, self._info])
        while True:
            try:
                connection, time_ns, data = next(messages)
                message = deserialize_message(data, kinds[connection.msgtype])
            except StopIteration:
                return
            except Exception as error:  # as in opening it, and what rclpy says of broken messages
                raise BagError(_unreadable(self.path, error)) from error
            yield connection, time_ns, message

    def _only(self, kinds: dict[str, Any], topic: str, option: str) -> Connection:
        """The only connection with messages of these types, or on this topic."""
        found = [c for c in self._reader.connections if c.msgtype in kinds and c.msgcount]
        names = ' or '.join(kinds)
        if not found:
            raise BagError(f'{self.path}: no messages of type {names}')
        chosen = [c for c in found if c.topic == topic] if topic else found
        topics = ', '.join(sorted({c.topic for c in found}))
        if not chosen:
            raise BagError(
                f'{self.path}: no messages of type {names} on {topic}, only on {topics}'
            )
        if len(chosen) > 1:
            raise BagError(f'{self.path}: choose one of {topics} with {option}')
        return chosen[0]


def _unreadable(path: Path, error: Exception) -> str:
    reason = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
    return f'{path}: expected a complete ROS 2 recording (.mcap, .db3 or folder), but: {reason}'
