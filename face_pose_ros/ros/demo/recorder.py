# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Records the demo of a real camera, whose true poses are unknown: overlay, rates, latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from face_pose_ros.ros.conversions import stamp_ns
from face_pose_ros.ros.declaring import declare_options
from face_pose_ros.ros.demo.output import VIDEO, OutputParameters, make_empty
from face_pose_ros.ros.drawing.draw import fitted
from face_pose_ros.ros.images import image_to_rgb
from face_pose_ros.ros.spinning import leave, run

VIDEO_HZ = 30.0


class DemoRecorder(Node):
    """Writes the overlay to a video while the demo runs, and counts answers."""

    def __init__(self, **kwargs: Any) -> None:
        """Subscribe to the pose node's outputs.

        Args:
            kwargs: Passed on to `rclpy.node.Node`.
        """
        super().__init__('demo_recorder', **kwargs)
        output = Path(declare_options(self, OutputParameters()).output)
        make_empty(output)
        self._path = output / VIDEO
        self._writer: cv2.VideoWriter | None = None
        self._size = 0, 0  # width and height of the video [px]
        self._begin_ns = 0  # stamp of the video's first picture
        self._written = 0  # pictures in the video
        self._picture: NDArray[np.uint8] | None = None  # BGR, the next to be written
        self._images = 0
        self._heads: list[int] = []  # per processed image
        self._latencies_s: list[float] = []
        # Deep and reliable: no message is lost while a picture is written.
        counted = QoSProfile(depth=1000)
        self.create_subscription(CameraInfo, 'camera_info', self._on_info, counted)
        self.create_subscription(PoseArray, 'face_pose/poses', self._on_poses, counted)
        self.create_subscription(Image, 'face_pose/overlay', self._on_overlay, 10)

    @property
    def began(self) -> bool:
        """Whether a message has arrived."""
        return self._images > 0

    def _on_info(self, _: CameraInfo) -> None:
        self._images += 1

    def _on_poses(self, msg: PoseArray) -> None:
        self._heads.append(len(msg.poses))
        age_ns = self.get_clock().now().nanoseconds - stamp_ns(msg.header.stamp)
        self._latencies_s.append(1e-9 * age_ns)

    def _on_overlay(self, msg: Image) -> None:
        taken_ns = stamp_ns(msg.header.stamp)
        if self._writer is None:
            codec, self._size = cv2.VideoWriter.fourcc(*'mp4v'), (msg.width, msg.height)
            self._writer = cv2.VideoWriter(str(self._path), codec, VIDEO_HZ, self._size)
            self._begin_ns = taken_ns
        # Repeat each picture until the next one is due: the video plays in real time.
        due = round(1e-9 * (taken_ns - self._begin_ns) * VIDEO_HZ)
        self._write(due - self._written)
        self._picture = fitted(image_to_rgb(msg)[..., ::-1], *self._size)

    def _write(self, times: int) -> None:
        if self._writer is None or self._picture is None:
            return
        for _ in range(times):
            self._writer.write(self._picture)
            self._written += 1

    def report(self) -> int:
        """Close the video and print the counts; 1 if no image was processed."""
        self._write(1)
        if self._writer is not None:
            self._writer.release()
        if not self._heads:
            print(f'\nnone of {self._images} images was processed')
            return 1
        print(
            f'\n{len(self._heads)} of {self._images} images processed, '
            f'{np.mean(self._heads):.2f} heads per image, '
            f'latency p50 {1000 * np.median(self._latencies_s):.0f} ms; '
            'poses are not checked: true poses are known for the virtual camera only'
        )
        print('written:', self._path)
        return 0


def main(args: list[str] | None = None) -> None:
    """Record until interrupted, then report; exit status 1 if no image was processed."""
    node = run('demo_recorder', DemoRecorder, args)
    # Interrupted before the first message: nothing to report.
    leave(node.report() if node and node.began else 0)
