# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures latency and throughput of a node in its own process, over DDS.

    python benchmarks/dds.py                        # latency at 10, 30 and 60 Hz, then throughput
    python benchmarks/dds.py --rates 30 --node -p threads:=1     # one thread

1280 x 720 bgr8 from one process, poses from another, with the Fast DDS profile of config/. The
throughput is the highest rate of the camera at which less than 5 % of the images are skipped,
found by bisection, as in ros2_benchmark. A node slower than the camera processes the newest image.
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
from against import add_against, compare
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
    """A camera, and a consumer that records when poses arrive."""

    def __init__(self) -> None:
        """Advertise and subscribe."""
        super().__init__('robot')
        self.image_pub = self.create_publisher(Image, 'image', qos_profile_sensor_data)
        self.info_pub = self.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
        self.create_subscription(PoseArray, 'face_pose/poses', self._on_poses, 100)
        self.poses: list[tuple[int, int]] = []  # stamp of the image, arrival [ns]
        data = array.array('B')
        data.frombytes(make_image()[..., ::-1].tobytes())
        self._image = Image(height=HEIGHT, width=WIDTH, encoding='bgr8', step=3 * WIDTH, data=data)
        K = [FOCAL_PX, 0, WIDTH / 2, 0, FOCAL_PX, HEIGHT / 2, 0, 0, 1]
        self._camera = Camera.from_K(K, WIDTH, HEIGHT)

    def _on_poses(self, msg: PoseArray) -> None:
        stamp = msg.header.stamp
        now_ns = self.get_clock().now().nanoseconds
        self.poses.append((stamp.sec * 10**9 + stamp.nanosec, now_ns))

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


class PoseProcess:
    """The pose node as a process, with its memory and CPU time."""

    def __init__(self, arguments: list[str]) -> None:
        """Start it."""
        program = [sys.executable, '-m', 'face_pose_ros.ros.programs', 'pose_node']
        self._process = subprocess.Popen([*program, '--ros-args', *arguments])

    def __enter__(self) -> PoseProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)

    def check(self) -> None:
        """End the benchmark if the node has ended."""
        if self._process.poll() is not None:
            sys.exit(self._process.returncode)

    def resident_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f'/proc/{self._process.pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGE_SIZE') / 1e6

    def cpu_s(self) -> float:
        """CPU time so far, of all threads."""
        # The second field, the program's name in brackets, may hold spaces.
        fields = Path(f'/proc/{self._process.pid}/stat').read_text().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def measure(robot: Robot, node: PoseProcess, rate_hz: float, seconds: float) -> dict[str, float]:
    """Stream at a rate; returns the figures."""
    stream(robot, rate_hz, 1)
    memory_mb, cpu_s = node.resident_mb(), node.cpu_s()
    robot.poses.clear()
    stamps = stream(robot, rate_hz, seconds)
    cpu_s = node.cpu_s() - cpu_s
    end_s = time.monotonic() + 1
    while time.monotonic() < end_s:
        rclpy.spin_once(robot, timeout_sec=0.05)
    sent = set(stamps)
    answers = np.array([a for a in robot.poses if a[0] in sent])
    latency_ms = 1e-6 * (answers[:, 1] - answers[:, 0])
    between_ms = 1e-6 * np.diff(answers[:, 1])
    # The result is valid only if the camera reaches the rate.
    sent_hz = 1e9 * (len(stamps) - 1) / (stamps[-1] - stamps[0])
    return {
        'images per second, sent': sent_hz,
        'processed [%]': 100 * len(answers) / len(stamps),
        'latency p50 [ms]': float(np.median(latency_ms)),
        'latency p95 [ms]': float(np.percentile(latency_ms, 95)),
        'time between poses, p50 [ms]': float(np.median(between_ms)),
        'jitter, standard deviation [ms]': float(between_ms.std()),
        'latency above 1.1 intervals and one period [%]': 100
        * float((latency_ms > 1.1 * np.median(between_ms) + 1e3 / rate_hz).mean()),
        'poses out of order': float((np.diff(answers[:, 0]) < 0).sum()),
        'CPU of the node [% of one core]': 100 * cpu_s / seconds,
        'resident memory [MB]': node.resident_mb(),
        'memory growth [%]': 100 * (node.resident_mb() / memory_mb - 1),
    }


def throughput_hz(robot: Robot, node: PoseProcess, seconds: float) -> float:
    """Highest rate, to 5 %, at which at most 5 % of the images are skipped."""
    low_hz, high_hz = 1.0, 240.0
    while high_hz / low_hz > 1.05:
        rate_hz = (low_hz * high_hz) ** 0.5
        figures = measure(robot, node, rate_hz, seconds)
        keeps_up = figures['processed [%]'] >= 95
        keeps_up &= figures['images per second, sent'] > 0.97 * rate_hz
        low_hz, high_hz = (rate_hz, high_hz) if keeps_up else (low_hz, rate_hz)
    return low_hz


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rates', type=float, nargs='+', help='of the camera [Hz]')
    parser.add_argument('--seconds', type=float, default=15.0, help='of each rate')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--node', nargs=argparse.REMAINDER, default=[], help='its ROS arguments')
    add_against(parser)
    options = parser.parse_args()
    if options.against:
        compare(__file__, options.against)
        return
    os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(PROFILE))
    with domain_id() as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        rclpy.init()
        results = {}
        with PoseProcess(options.node) as node:
            robot = Robot()
            while not (robot.poses and robot.count_publishers('face_pose/poses')):
                stream(robot, 10, 0.5)
                node.check()
            for rate_hz in options.rates or (10.0, 30.0, 60.0):
                results[f'{rate_hz:g} Hz'] = measure(robot, node, rate_hz, options.seconds)
            if not options.rates:
                rate_hz = throughput_hz(robot, node, options.seconds / 3)
                results['throughput'] = {'images per second': rate_hz}
            robot.destroy_node()
        rclpy.shutdown()
    info = machine()
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    for name, figures in results.items():
        print(name)
        for key, value in figures.items():
            print(f'  {key:<50}{value:.1f}')
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': results}, indent=1) + '\n')


if __name__ == '__main__':
    main()
