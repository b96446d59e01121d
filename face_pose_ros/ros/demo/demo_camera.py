# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera of the demo: a virtual one, a webcam, a video file or a folder of images.

The virtual camera rotates, zooms and changes its lens in front of portraits. The node publishes
`image` and `camera_info`; for the virtual camera also the true frames on /tf: world -> camera,
which turns, and world -> portrait_<name>, which does not move and names the portrait. With a depth
camera, that is the true pose of the head.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.calibration import CalibrationError, load_calibration
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import Checked, start_option
from face_pose_ros.ros.camera_info import CameraInfoError, camera_from_info
from face_pose_ros.ros.compat import TransformBroadcaster
from face_pose_ros.ros.conversions import camera_info_msg, image_msg, transform_msg
from face_pose_ros.ros.declaring import declare_options
from face_pose_ros.ros.demo.scenes import RATE_HZ, Scene, make_scenes
from face_pose_ros.ros.demo.source import Picture, SourceError, open_source
from face_pose_ros.ros.spinning import leave, run

PORTRAIT_FRAME = 'portrait_'
VIRTUAL = 'virtual'

_LAST_MESSAGE_S = 0.5  # for the last messages to arrive
_START_S = 0.5  # from the discovery of the node's subscription until it receives
_REPORT_AFTER_S = 2.0
_PROCESSING_S = 20.0  # wait for an image to be processed, before it is repeated or skipped


@dataclass(frozen=True)
class DemoCameraParameters(Checked):
    """Parameters of `demo_camera`; 0 and empty mean: not given."""

    source: str = start_option(
        VIRTUAL,
        'virtual: rotating camera with known poses; webcam:<index>; a video file; a folder of '
        'images, or one image',
    )
    calibration: str = start_option('', 'calibration file of the source, for its image size')
    horizontal_fov_deg: float = start_option(
        0.0, 'guess used instead of a calibration', unit='deg', low=0, high=170
    )
    rate_hz: float = start_option(
        0.0,
        "images per second; 0: the video's own, 30 for a folder, the webcam's default",
        unit='Hz',
        low=0,
        high=1000,
    )
    loop: bool = start_option(False, 'repeat a video or folder')
    with_node: bool = start_option(
        False,
        'start when the pose node subscribes; a folder waits until each image is processed',
    )
    depth: bool = start_option(
        False, 'the virtual camera also has a depth camera, aligned to its images'
    )
    frame_id: str = start_option('demo_camera_optical', 'frame_id of the images')


@dataclass(frozen=True)
class _Frame:
    """An image with its CameraInfo; for the virtual camera with the true frames."""

    picture: Picture
    info: CameraInfo  # the camera fills in the header
    T_world_frames: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # (4, 4) m
    z_mm: NDArray[np.uint16] | None = None  # (H, W)


@dataclass(frozen=True)
class _Unprocessed:
    """An image of a folder that the pose node has not processed yet."""

    frame: _Frame
    stamp: TimeMsg
    shown_s: float
    again: bool  # shown for the second time


def _virtual_frames(scenes: Iterable[Scene], frame_id: str) -> Iterator[_Frame]:
    for scene in scenes:
        for shot in map(scene.shot, range(scene.frames)):
            frames = {frame_id: rotations.from_rt(shot.R_world_cam, np.zeros(3))}
            if scene.portrait:
                frames[PORTRAIT_FRAME + scene.portrait] = scene.T_world_head
            info = camera_info_msg(shot.camera, Header())
            yield _Frame(Picture(shot.rgb), info, frames, shot.z_mm)


def _read_info(path: str) -> CameraInfo:
    info = CameraInfo(**asdict(load_calibration(path)))
    try:
        camera_from_info(info)
    except CameraInfoError as error:
        raise CalibrationError(f'calibration file {path}: {error}') from error
    return info


class DemoCamera(Node):
    """Publishes a virtual camera with known poses, or a webcam, a video, a folder."""

    def __init__(self, **kwargs: Any) -> None:
        """Read the parameters and open the source.

        Args:
            kwargs: Passed on to `rclpy.node.Node`.

        Raises:
            ParameterError: A name is unknown, or a value is out of range or of another type.
            SourceError: The source cannot be opened, or a parameter does not apply to it.
            CalibrationError: The calibration file is unreadable or of another image size.
        """
        super().__init__('demo_camera', **kwargs)
        parameters = declare_options(self, DemoCameraParameters())
        self.frame, self.source = parameters.frame_id, parameters.source
        self._calibration, self._fov_deg = parameters.calibration, parameters.horizontal_fov_deg
        self._rate_hz, self._loop = parameters.rate_hz, parameters.loop
        self._with_node, self._depth = parameters.with_node, parameters.depth
        # Reliable, so that subscribers can count all images.
        self._image_pub = self.create_publisher(Image, 'image', 5)
        self._info_pub = self.create_publisher(CameraInfo, 'camera_info', 100)
        self._depth_pubs = self._depth and (
            self.create_publisher(Image, 'depth', 5),
            self.create_publisher(CameraInfo, 'depth_camera_info', 5),
        )
        self._tf = TransformBroadcaster(self)
        self.finished = False
        self._begin_s = time.monotonic()  # start of the wait for the node
        self._ready_s: float | None = None  # when the node was discovered
        self._reported = False
        self._poses = self.create_subscription(PoseArray, 'face_pose/poses', self._on_poses, 10)
        self._unprocessed: _Unprocessed | None = None
        self._one_by_one = self._with_node and Path(self.source).expanduser().is_dir()
        rate_hz, self._frames = self._open()
        # A webcam is read without pause: reading blocks until there is an image.
        self._timer = self.create_timer(1 / rate_hz if rate_hz else 0.0, self._show)

    def _open(self) -> tuple[float | None, Iterator[_Frame]]:
        """Rate [Hz], None for a webcam, and frames of the source."""
        if self.source == VIRTUAL:
            self._refuse('calibration', 'horizontal_fov_deg', 'rate_hz', 'loop')
            self.get_logger().info('rendering the pictures of the virtual camera, then it starts')
            return RATE_HZ, _virtual_frames(make_scenes(self._depth), self.frame)
        self._refuse('depth')
        if self.source.startswith('webcam:'):
            self._refuse('loop')
        if bool(self._calibration) == bool(self._fov_deg):
            raise SourceError(
                f'source {self.source} needs one of the parameters calibration, a YAML file of '
                'camera_calibration, and horizontal_fov_deg, a guess'
            )
        calibrated = _read_info(self._calibration) if self._calibration else None
        size = (calibrated.width, calibrated.height) if calibrated else None
        source = open_source(self.source, self._loop, self._rate_hz, size)

        def info_of(width: int, height: int) -> CameraInfo:
            if calibrated is None:
                return camera_info_msg(Camera.from_fov(width, height, self._fov_deg), Header())
            if (width, height) != size:
                raise CalibrationError(
                    f'calibration file {self._calibration} is for {calibrated.width} x '
                    f'{calibrated.height} px, expected {width} x {height} px as source '
                    f'{self.source} has'
                )
            return calibrated

        info = info_of(source.width, source.height)
        if calibrated is None:
            self.get_logger().warning(
                f'the calibration of {self.source} is guessed from parameter horizontal_fov_deg: '
                f'{self._fov_deg:g} deg, a focal length of {info.k[0]:.0f} px, no distortion. '
                'Distances have the same error; docs/calibration.md explains how to calibrate'
            )
        self.get_logger().info(
            f'{self.source}: {source.width} x {source.height} px at '
            + (f'{source.rate_hz:g} Hz' if source.rate_hz else "the webcam's rate")
        )
        return source.rate_hz, (
            _Frame(picture, info_of(picture.rgb.shape[1], picture.rgb.shape[0]))
            for picture in source.pictures
        )

    def _refuse(self, *names: str) -> None:
        for name in names:
            if self.get_parameter(name).value:
                raise SourceError(f'parameter {name} does not apply to source {self.source}')

    def _is_watched(self) -> bool:
        """Whether to start or continue publishing."""
        if self.source.startswith('webcam:'):
            return True
        if not self._with_node and self.source != VIRTUAL:
            return self._image_pub.get_subscription_count() > 0
        now_s = time.monotonic()
        if self._ready_s is None:
            if self._node_subscribes():
                self._ready_s = now_s
            elif not self._reported and now_s - self._begin_s > _REPORT_AFTER_S:
                self._reported = True
                self.get_logger().info(
                    f'waiting for the pose node to subscribe to {self._image_pub.topic_name}'
                )
        return self._ready_s is not None and now_s - self._ready_s > _START_S

    def _node_subscribes(self) -> bool:
        """Whether a node that publishes poses subscribes to the images."""
        speakers, listeners = (
            {(endpoint.node_namespace, endpoint.node_name) for endpoint in endpoints}
            for endpoints in (
                self.get_publishers_info_by_topic(self._poses.topic_name),
                self.get_subscriptions_info_by_topic(self._image_pub.topic_name),
            )
        )
        return bool(speakers & listeners)

    def _on_poses(self, msg: PoseArray) -> None:
        if self._unprocessed and msg.header.stamp == self._unprocessed.stamp:
            self._unprocessed = None

    def _show(self) -> None:
        if not self._is_watched():
            return
        last = self._unprocessed
        if last and time.monotonic() - last.shown_s < _PROCESSING_S:
            return
        if last and last.again:
            self.get_logger().warning(f'{last.frame.picture.name} was not processed')
        again = last is not None and not last.again
        frame = last.frame if last and again else next(self._frames, None)
        if frame is None:
            self.finished = True
            self._timer.cancel()
            return
        stamp = self.get_clock().now() - Duration(seconds=frame.picture.age_s)
        header = Header(stamp=stamp.to_msg(), frame_id=self.frame)
        world = Header(stamp=header.stamp, frame_id='world')
        transforms = [transform_msg(T, world, child) for child, T in frame.T_world_frames.items()]
        if transforms:
            self._tf.sendTransform(transforms)
        if self._one_by_one:
            self._unprocessed = _Unprocessed(frame, header.stamp, time.monotonic(), again)
        frame.info.header = header
        self._info_pub.publish(frame.info)
        if self._depth_pubs and frame.z_mm is not None:
            depth_pub, info_pub = self._depth_pubs
            info_pub.publish(frame.info)
            depth_pub.publish(image_msg(frame.z_mm, '16UC1', header))
        self._image_pub.publish(image_msg(frame.picture.rgb, 'rgb8', header))


def main(args: list[str] | None = None) -> None:
    """Publish to the end or until interrupted; exit status 1 if the source cannot be opened."""
    # Our own line reports problems of a source; OpenCV and FFmpeg would add several.
    cv2.setLogLevel(0)
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

    def spin(node: DemoCamera) -> None:
        while rclpy.ok() and not node.finished:
            rclpy.spin_once(node, timeout_sec=0.5)
        time.sleep(_LAST_MESSAGE_S)

    run('demo_camera', DemoCamera, args, (SourceError, CalibrationError), spin)
    leave(0)
