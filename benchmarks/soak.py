# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the node for long: memory, errors and ids.

    python benchmarks/soak.py --frames 100000

Replays frames through the node as fast as it goes, without the transport: a portrait that enters,
moves and leaves, beside another one now and then; another CameraInfo every 1000 frames; one image
in a hundred is malformed. Prints resident memory and errors.
"""

from __future__ import annotations

import argparse
import array
import json
import math
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import rclpy
from against import add_against, compare
from builtin_interfaces.msg import Time
from machine import machine
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros.conversions import camera_info_msg
from face_pose_ros.ros.node import Frame, PoseNode
from face_pose_ros.samples import load_portraits

WIDTH, HEIGHT, RATE_HZ = 480, 270, 30
SETTLED = 2000  # frames after which memory must not grow
VISIT = 300  # frames from one entrance to the next


def picture(frame: int, portraits: list[np.ndarray]) -> np.ndarray:
    """(270, 480, 3) uint8 RGB: the portraits of a frame."""
    image = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    phase = frame % VISIT / VISIT
    for i, portrait in enumerate(portraits):
        present = phase < 0.7 if i == 0 else 0.3 < phase < 0.5
        if present:
            height, width = portrait.shape[:2]
            x = round(35 + 220 * i + 30 * math.sin(2 * math.pi * (phase * 3 + i)))
            image[20 : 20 + height, x : x + width] = portrait
    return image


def messages(frame: int, portraits: list[np.ndarray]) -> tuple[Image, CameraInfo]:
    """Image and CameraInfo of a frame; some are malformed."""
    nanoseconds = round(1e9 * (1000 + frame / RATE_HZ))
    stamp = Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    header = Header(stamp=stamp, frame_id='camera')
    f = 400.0 + frame // 1000 % 7
    camera = Camera.from_K([f, 0, WIDTH / 2, 0, f, HEIGHT / 2, 0, 0, 1], WIDTH, HEIGHT)
    image = Image(
        header=header,
        height=HEIGHT,
        width=WIDTH,
        encoding='rgb8',
        step=3 * WIDTH,
        data=array.array('B', picture(frame, portraits).tobytes()),
    )
    if frame % 100 == 50:
        del image.data[frame % 1000 :]
    return image, camera_info_msg(camera, header)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    """Run; exit status 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=100_000)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    add_against(parser)
    options = parser.parse_args()
    if options.against:
        compare(__file__, options.against)
        return 0
    info = machine()
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    portraits = [cv2.resize(p, (180, 210)) for p in load_portraits().values()]

    rclpy.init()
    node = PoseNode(parameter_overrides=[Parameter('tracking.lost_after_s', value=0.5)])
    if not node.autostart():
        return 1
    warnings: list[str] = []
    node._warn = lambda cause, text: warnings.append(cause)  # do not print every warning
    last_seen_s: dict[str, float] = {}
    reused, start_s = 0, time.monotonic()
    memory_mb = {}
    for frame in range(options.frames):
        node.work(Frame(*messages(frame, portraits)))
        now_s = frame / RATE_HZ
        for face_id in node.pipeline.estimator.tracker.ids if node.pipeline else ():
            gone_s = now_s - last_seen_s.get(face_id, now_s)
            reused += 1.0 < gone_s < 60.0
            last_seen_s[face_id] = now_s
        if frame % 100 == 0:
            rclpy.spin_once(node, timeout_sec=0)
        if frame in (SETTLED, options.frames - 1) or frame % 10_000 == 0:
            memory_mb[frame] = resident_mb()
            rate = (frame + 1) / (time.monotonic() - start_s)
            print(f'frame {frame}: {memory_mb[frame]:.1f} MB, {rate:.0f} frames/s, '
                  f'{len(last_seen_s)} ids', flush=True)  # fmt: skip
    node.destroy_node()
    rclpy.shutdown()

    growth = memory_mb[options.frames - 1] / memory_mb.get(SETTLED, np.nan) - 1
    unexpected = len([cause for cause in warnings if cause != 'image'])
    figures = {
        'frames': options.frames,
        'growth after the first 2000 [%]': 100 * growth,
        'ids': len(last_seen_s),
        'ids used again within a minute': reused,
        'malformed frames refused': warnings.count('image'),
        'other warnings': unexpected,
    }
    for key, value in figures.items():
        print(f'  {key:<34}{value:.2f}' if isinstance(value, float) else f'  {key:<34}{value}')
    if options.json:
        options.json.write_text(json.dumps({**info, 'results': figures}, indent=1) + '\n')
    return int(not growth < 0.01 or reused > 0 or unexpected > 0)


if __name__ == '__main__':
    sys.exit(main())
