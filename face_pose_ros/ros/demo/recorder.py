"""The demo's record of a camera whose truth is unknown: video of the overlay, rates, latency."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image

from face_pose_ros.ros.images import image_to_rgb
from face_pose_ros.ros.spinning import until_interrupted

VIDEO_HZ = 30.0


class DemoRecorder(Node):
    """Writes the overlay to a video while the demo runs, and counts."""

    def __init__(self, **kwargs: Any) -> None:
        """Subscribe to what the pose node answers.

        Args:
            kwargs: Passed on to `rclpy.node.Node`.
        """
        super().__init__('demo_recorder', **kwargs)
        output = Path(str(self.declare_parameter('output', 'demo_output').value))
        output.mkdir(parents=True, exist_ok=True)
        self._path = output / 'demo.mp4'
        self._writer: cv2.VideoWriter | None = None
        self._begin_ns = 0  # stamp of the video's first picture
        self._written = 0  # pictures in the video
        self._picture: NDArray[np.uint8] | None = None  # BGR, the next to be written
        self._images = 0
        self._heads: list[int] = []  # in each answer
        self._latencies_s: list[float] = []
        # Deep, so that none is lost while a picture is written.
        qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(CameraInfo, 'camera_info', self._on_info, qos)
        self.create_subscription(PoseArray, 'face_pose/poses', self._on_poses, 10)
        self.create_subscription(Image, 'face_pose/overlay', self._on_overlay, 10)

    def _on_info(self, _: CameraInfo) -> None:
        self._images += 1

    def _on_poses(self, msg: PoseArray) -> None:
        self._heads.append(len(msg.poses))
        age = self.get_clock().now() - Time.from_msg(msg.header.stamp)
        self._latencies_s.append(1e-9 * age.nanoseconds)

    def _on_overlay(self, msg: Image) -> None:
        stamp_ns = Time.from_msg(msg.header.stamp).nanoseconds
        if self._writer is None:
            codec, size = cv2.VideoWriter.fourcc(*'mp4v'), (msg.width, msg.height)
            self._writer = cv2.VideoWriter(str(self._path), codec, VIDEO_HZ, size)
            self._begin_ns = stamp_ns
        # Each picture stays until the next one's time: the video plays as fast as it happened.
        due = round(1e-9 * (stamp_ns - self._begin_ns) * VIDEO_HZ)
        self._write(due - self._written)
        self._picture = np.ascontiguousarray(image_to_rgb(msg)[..., ::-1])

    def _write(self, times: int) -> None:
        if self._writer is None or self._picture is None:
            return
        for _ in range(times):
            self._writer.write(self._picture)
            self._written += 1

    def report(self) -> int:
        """End the video, print what was counted; 1 if no image was answered."""
        self._write(1)
        if self._writer is not None:
            self._writer.release()
        if not self._heads:
            print(f'\nnone of {self._images} images was answered')
            return 1
        print(
            f'\n{len(self._heads)} of {self._images} images answered, '
            f'{np.mean(self._heads):.2f} heads in each, '
            f'latency p50 {1000 * np.median(self._latencies_s):.0f} ms; '
            "poses are not checked, for only the virtual camera's truth is known"
        )
        print('written:', self._path)
        return 0


def main(args: list[str] | None = None) -> None:
    """Record until interrupted, then report; exit status 1 if nothing was answered."""
    rclpy.init(args=args)
    node = DemoRecorder()
    with until_interrupted():
        rclpy.spin(node)
    failed = node.report()
    node.destroy_node()
    rclpy.try_shutdown()
    sys.exit(failed)


if __name__ == '__main__':
    main()
