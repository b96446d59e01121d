"""How many images of a camera are answered over DDS, and how late, by a node of its own process?

    python benchmarks/dds.py --rate 15                          # a node that keeps up
    python benchmarks/dds.py --rate 30 --node -p keypoints.jitters:=32    # one that does not

1280 x 720 bgr8 from one process, poses from another, with the Fast DDS profile of config/. A node
that does not keep up must work on the newest image there is: an answer is then late by one
processing time, the image before, and the wait for it.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
import torch
from domain_coordinator import domain_id
from geometry_msgs.msg import PoseArray
from latency import FOCAL_PX, HEIGHT, WIDTH, make_image
from machine import machine
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros import Camera
from face_pose_ros.ros.conversions import camera_info_msg

PROFILE = Path(__file__).resolve().parents[1] / 'config' / 'fastdds_large_images.xml'


class Robot(Node):
    """A camera, and a consumer that notes when which image was answered."""

    def __init__(self) -> None:
        """Advertise and subscribe."""
        super().__init__('robot')
        self.image_pub = self.create_publisher(Image, 'image', qos_profile_sensor_data)
        self.info_pub = self.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
        self.create_subscription(PoseArray, 'face_pose/poses', self._on_poses, 100)
        self.answered: list[tuple[int, int]] = []  # stamp of the image, arrival [ns]
        data = array.array('B')
        data.frombytes(make_image()[..., ::-1].tobytes())
        self._image = Image(height=HEIGHT, width=WIDTH, encoding='bgr8', step=3 * WIDTH, data=data)
        K = [FOCAL_PX, 0, WIDTH / 2, 0, FOCAL_PX, HEIGHT / 2, 0, 0, 1]
        self._camera = Camera.from_K(K, WIDTH, HEIGHT)

    def _on_poses(self, msg: PoseArray) -> None:
        stamp = msg.header.stamp
        now_ns = self.get_clock().now().nanoseconds
        self.answered.append((stamp.sec * 10**9 + stamp.nanosec, now_ns))

    def publish(self) -> int:
        """One image, stamped now; returns the stamp [ns]."""
        now = self.get_clock().now()
        self._image.header = Header(stamp=now.to_msg(), frame_id='camera')
        self.info_pub.publish(camera_info_msg(self._camera, self._image.header))
        self.image_pub.publish(self._image)
        return now.nanoseconds


def stream(robot: Robot, rate_hz: float, seconds: float) -> list[int]:
    """Publish at a rate; returns the stamps [ns]."""
    stamps, next_s = [], time.monotonic()
    end_s = next_s + seconds
    while next_s < end_s:
        stamps.append(robot.publish())
        next_s += 1 / rate_hz
        while (wait_s := next_s - time.monotonic()) > 0:
            rclpy.spin_once(robot, timeout_sec=wait_s)
    return stamps


def measure(rate_hz: float, seconds: float, arguments: list[str]) -> dict[str, float]:
    """Start a node, stream, stop it."""
    command = [sys.executable, '-m', 'face_pose_ros.ros.node', '--ros-args', *arguments]
    process = subprocess.Popen(command)
    robot = Robot()
    try:
        while not (robot.answered and robot.count_publishers('face_pose/poses')):
            stream(robot, rate_hz, 0.5)
            if process.poll() is not None:
                sys.exit(process.returncode)
        stream(robot, rate_hz, 3)
        statm = Path(f'/proc/{process.pid}/statm')
        before = int(statm.read_text().split()[1])
        robot.answered.clear()
        stamps = stream(robot, rate_hz, seconds)
        after = int(statm.read_text().split()[1])
        end_s = time.monotonic() + 2
        while time.monotonic() < end_s:
            rclpy.spin_once(robot, timeout_sec=0.05)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    sent = set(stamps)
    answers = np.array([a for a in robot.answered if a[0] in sent])
    robot.destroy_node()
    latency_ms = 1e-6 * (answers[:, 1] - answers[:, 0])
    period_ms = 1e-6 * np.median(np.diff(answers[:, 1]))
    return {
        'images sent': len(stamps),
        'answered [%]': 100 * len(answers) / len(stamps),
        'latency p50 [ms]': float(np.median(latency_ms)),
        'latency p95 [ms]': float(np.percentile(latency_ms, 95)),
        'between answers [ms]': float(period_ms),
        'late by more than one answer and one image [%]': 100
        * float((latency_ms > 1.1 * period_ms + 1e3 / rate_hz).mean()),
        'answers out of order': int((np.diff(answers[:, 0]) < 0).sum()),
        'memory growth [%]': 100 * (after / before - 1),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rate', type=float, default=30.0, help='of the camera [Hz]')
    parser.add_argument('--seconds', type=float, default=20.0)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--node', nargs=argparse.REMAINDER, default=[], help='its ROS arguments')
    options = parser.parse_args()
    os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(PROFILE))
    with domain_id() as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        rclpy.init()
        info = machine(torch.device('cpu'))
        print(', '.join(f'{key} {value}' for key, value in info.items()))
        figures = measure(options.rate, options.seconds, options.node)
        rclpy.shutdown()
    for key, value in figures.items():
        print(f'  {key:<48}{value:.1f}' if isinstance(value, float) else f'  {key:<48}{value}')
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': figures}, indent=1) + '\n')


if __name__ == '__main__':
    main()
