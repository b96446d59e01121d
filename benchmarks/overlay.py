# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the time of overlay and markers at 1280 x 720, for one and eight faces.

python benchmarks/overlay.py --threads 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import cv2
from latency import FOCAL_PX, HEIGHT, WIDTH, make_image, time_ms
from machine import machine
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from face_pose_ros import Camera, FacePoseEstimator
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.ros.drawing.markers import face_markers
from face_pose_ros.ros.drawing.overlay import draw_overlay


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--runs', type=int, default=100)
    options = parser.parse_args(args)
    cv2.setNumThreads(options.threads)

    image = make_image()
    K = [FOCAL_PX, 0, 0.5 * (WIDTH - 1), 0, FOCAL_PX, 0.5 * (HEIGHT - 1), 0, 0, 1]
    camera = Camera.from_K(K, WIDTH, HEIGHT)
    model, header = deformable_face(), Header()
    (face,) = FacePoseEstimator().track(image, camera, 0.0)
    one, eight = [face], 8 * [face]
    messages = {count: face_markers(count * [face], [], header, model) for count in (1, 8)}
    calls: dict[str, Callable[[], object]] = {
        'overlay, no face': lambda: draw_overlay(image, [], camera, model, '30.0 Hz'),
        'overlay, one face': lambda: draw_overlay(image, one, camera, model, '30.0 Hz'),
        'overlay, eight faces': lambda: draw_overlay(image, eight, camera, model, '30.0 Hz'),
        'markers, one face': lambda: face_markers(one, [], header, model),
        'markers, eight faces': lambda: face_markers(eight, [], header, model),
        'serialise markers of one': lambda: serialize_message(messages[1]),
        'serialise markers of eight': lambda: serialize_message(messages[8]),
    }
    info = machine()
    print(', '.join(f'{key} {value}' for key, value in info.items()))
    face_px = face.box_xyxy[3] - face.box_xyxy[1]
    size = len(serialize_message(messages[1])) / 1024
    print(f'markers of one face: {size:.0f} KiB; its keypoints are {face_px:.0f} px high')
    print(f'{"":<28}{"p50 [ms]":>10}{"p95 [ms]":>10}')
    for name, call in calls.items():
        figures = time_ms(call, options.runs)
        print(f'{name:<28}{figures["p50_ms"]:>10.1f}{figures["p95_ms"]:>10.1f}')


if __name__ == '__main__':
    main()
