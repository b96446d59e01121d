# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checks the demo: compares published poses and TF with the exact rotation of the camera."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from face_pose_ros.pose.face_model import FaceModel, deformable_face
from face_pose_ros.ros.camera_info import camera_from_info
from face_pose_ros.ros.conversions import stamp_ns, transform
from face_pose_ros.ros.declaring import declare_options
from face_pose_ros.ros.demo.demo_camera import PORTRAIT_FRAME, RATE_HZ
from face_pose_ros.ros.demo.output import SHEET, VIDEO, OutputParameters, make_empty
from face_pose_ros.ros.drawing.draw import draw_head, draw_text
from face_pose_ros.ros.images import image_to_rgb
from face_pose_ros.ros.spinning import leave, run
from face_pose_ros.virtual_camera import spread

_SILENCE_S = 4.0  # the demo is over after this time without a message
_AGREE = 1e-6  # largest difference between TF and PoseStamped
_FRAMES_PER_VIDEO_FRAME = 4  # recording must not slow down the node
_MAX_ANGLE_DEG, _MAX_OFFSET_PERCENT = 1.5, 1.0  # mean over a scene
_MAX_DISTANCE_PERCENT = 1.5  # likewise, with a depth camera


@dataclass
class _Frame:
    """Messages of one stamp."""

    info: CameraInfo | None = None
    portrait: str = ''
    R_world_cam: NDArray[np.float64] | None = None
    T_world_head: NDArray[np.float64] | None = None  # true pose; only with a depth camera
    T_cam_head: NDArray[np.float64] | None = None  # PoseStamped
    T_cam_face: list[NDArray[np.float64]] = field(default_factory=list)  # TF, every face
    latency_s: float = 0.0
    picture: NDArray[np.uint8] | None = None  # BGR

    @property
    def scene(self) -> tuple[str, str]:
        """Portrait and lens; the portrait is empty between scenes."""
        assert self.info is not None
        lens = self.info.distortion_model if any(self.info.d) else 'none'
        return self.portrait, lens


class DemoChecker(Node):
    """Collects images, poses and TF by stamp while the demo runs, and checks them at its end."""

    def __init__(self, **kwargs: Any) -> None:
        """Make the output folder and subscribe.

        Args:
            kwargs: Passed on to `rclpy.node.Node`.

        Raises:
            ParameterError: A parameter is unknown or of another type.
        """
        super().__init__('demo_checker', **kwargs)
        self.output = Path(declare_options(self, OutputParameters()).output)
        make_empty(self.output)
        self._frames: defaultdict[int, _Frame] = defaultdict(_Frame)
        self._images = 0
        self._latest_s = math.inf  # of CameraInfo
        self.create_subscription(TFMessage, '/tf', self._on_tf, QoSProfile(depth=100))
        self.create_subscription(PoseStamped, 'face_pose/pose', self._on_pose, 10)
        self.create_subscription(Image, 'image', self._on_image, qos_profile_sensor_data)
        self.create_subscription(CameraInfo, 'camera_info', self._on_info, qos_profile_sensor_data)

    @property
    def began(self) -> bool:
        """Whether a message has arrived."""
        return math.isfinite(self._latest_s)

    @property
    def silent(self) -> bool:
        """Whether no message has arrived for `_SILENCE_S`: the demo is over."""
        return time.monotonic() - self._latest_s > _SILENCE_S

    def _on_image(self, msg: Image) -> None:
        self._images += 1
        if self._images % _FRAMES_PER_VIDEO_FRAME == 0:
            bgr = np.ascontiguousarray(image_to_rgb(msg)[..., ::-1])
            self._frames[stamp_ns(msg.header.stamp)].picture = bgr

    def _on_info(self, msg: CameraInfo) -> None:
        self._latest_s = time.monotonic()
        self._frames[stamp_ns(msg.header.stamp)].info = msg

    def _on_tf(self, msg: TFMessage) -> None:
        for step in msg.transforms:
            frame, child = self._frames[stamp_ns(step.header.stamp)], step.child_frame_id
            T = transform(step.transform.translation, step.transform.rotation)
            if child.startswith(PORTRAIT_FRAME):
                frame.portrait = child.removeprefix(PORTRAIT_FRAME)
                frame.T_world_head = T if T[:3, 3].any() else None
            elif step.header.frame_id == 'world':
                frame.R_world_cam = T[:3, :3]
            elif child.startswith('face_'):
                frame.T_cam_face.append(T)

    def _on_pose(self, msg: PoseStamped) -> None:
        taken_ns = stamp_ns(msg.header.stamp)
        frame = self._frames[taken_ns]
        frame.latency_s = 1e-9 * (self.get_clock().now().nanoseconds - taken_ns)
        frame.T_cam_head = transform(msg.pose.position, msg.pose.orientation)

    def report(self) -> int:
        """Print the table, write video and picture; returns the number of failed checks."""
        frames = [f for _, f in sorted(self._frames.items()) if f.info is not None and f.portrait]
        print(
            f'\n{"portrait":<14}{"lens":<21}{"processed":>10}{"turned":>9}{"rotation error":>22}'
            f'{"position error":>18}{"latency":>10}'
        )
        print(f'{"":45}{"[deg]":>9}{"mean / max [deg]":>22}{"mean [%]":>18}{"p50 [ms]":>10}')
        failed = sum(
            not _print_scene(scene, [f for f in frames if f.scene == scene])
            for scene in sorted({f.scene for f in frames})
        )
        processed = [f for f in frames if f.T_cam_head is not None]
        agree = sum(_agrees_with_tf(f) for f in processed)
        print(
            f'\nTF and PoseStamped agree to {_AGREE:g} and have a stamp of the camera in '
            f'{agree} of {len(processed)} frames'
        )
        pictures = self._write_pictures(frames)
        print('written:', *pictures)
        return failed + (agree < len(processed)) + (not processed)

    def _write_pictures(self, frames: Sequence[_Frame]) -> list[Path]:
        model = deformable_face()
        drawn: defaultdict[tuple[str, str], list[NDArray[np.uint8]]] = defaultdict(list)
        for frame in frames:
            if frame.picture is not None and frame.T_cam_head is not None:
                drawn[frame.scene].append(_annotate(frame, model))
        if not drawn:
            return []
        video, sheet = self.output / VIDEO, self.output / SHEET
        height, width = next(iter(drawn.values()))[0].shape[:2]
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(
            str(video), codec, RATE_HZ / _FRAMES_PER_VIDEO_FRAME, (width, height)
        )
        for picture in chain.from_iterable(drawn.values()):
            writer.write(picture)
        writer.release()
        # After an eighth of a scene the camera is at one end of its rotation and zoom.
        stills = [pictures[len(pictures) // 8] for pictures in drawn.values()]
        stills += [np.zeros_like(stills[0])] * (-len(stills) % 3)
        rows = [np.hstack(stills[i : i + 3]) for i in range(0, len(stills), 3)]
        cv2.imwrite(str(sheet), np.vstack(rows))
        return [video, sheet]


def _print_scene(scene: tuple[str, str], frames: Sequence[_Frame]) -> bool:
    """One row of the table; False if the scene failed."""
    processed = [f for f in frames if f.T_cam_head is not None and f.R_world_cam is not None]
    row = f'{scene[0]:<14}{scene[1]:<21}{len(processed):>5}/{len(frames):<4}'
    if len(processed) < 2:
        print(row, '   no poses')
        return False
    R_world_cam = np.array([f.R_world_cam for f in processed])
    T_world_head = np.array([f.T_cam_head for f in processed])
    T_world_head[:, :3] = R_world_cam @ T_world_head[:, :3]
    angle, offset = spread(T_world_head)
    turns = Rotation.from_matrix(R_world_cam)
    turned = np.rad2deg((turns[0].inv() * turns).magnitude().max())
    latency_ms = 1000 * np.median([f.latency_s for f in processed])
    of_distance = _distance_errors_percent(processed)
    print(
        f'{row}{turned:>9.1f}{angle.mean():>15.2f} / {angle.max():<4.2f}'
        f'{offset.mean():>18.2f}{latency_ms:>10.0f}'
        + (f'   distance off by {of_distance.mean():.2f} %' if len(of_distance) else '')
    )
    return bool(
        angle.mean() <= _MAX_ANGLE_DEG
        and offset.mean() <= _MAX_OFFSET_PERCENT
        and (len(of_distance) == 0 or of_distance.mean() <= _MAX_DISTANCE_PERCENT)
    )


def _distance_errors_percent(frames: Sequence[_Frame]) -> NDArray[np.float64]:
    """Distance errors of the frames with a known head position; empty without depth camera."""
    pairs = [
        (np.linalg.norm(f.T_cam_head[:3, 3]), np.linalg.norm(f.T_world_head[:3, 3]))
        for f in frames
        if f.T_cam_head is not None and f.T_world_head is not None
    ]
    found, true = np.array(pairs).reshape(-1, 2).T
    return np.asarray(100 * np.abs(found / true - 1))


def _agrees_with_tf(frame: _Frame) -> bool:
    assert frame.T_cam_head is not None
    return any(np.abs(T - frame.T_cam_head).max() <= _AGREE for T in frame.T_cam_face)


def _annotate(frame: _Frame, model: FaceModel) -> NDArray[np.uint8]:
    assert frame.picture is not None
    assert frame.info is not None
    assert frame.T_cam_head is not None
    picture = frame.picture
    draw_head(picture, frame.T_cam_head, camera_from_info(frame.info), model)
    x, y, z = frame.T_cam_head[:3, 3]
    draw_text(picture, f'lens: {frame.scene[1]}, f = {frame.info.k[0]:.0f} px', line=0)
    draw_text(picture, f'head at {x:+.3f} {y:+.3f} {z:+.3f} m', line=1)
    return picture


def main(args: list[str] | None = None) -> None:
    """Collect until no message arrives, then report; exit status 1 if a check failed."""

    def spin(node: DemoChecker) -> None:
        while rclpy.ok() and not node.silent:
            rclpy.spin_once(node, timeout_sec=0.2)

    node = run('demo_checker', DemoChecker, args, spin=spin)
    # Interrupted before the first message: nothing to report.
    failed = node.report() if node and node.began else 0
    leave(1 if failed else 0)
