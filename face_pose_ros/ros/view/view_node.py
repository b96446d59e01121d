# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Shows and records the results of a pose node with the rerun SDK, for machines without RViz.

The scene has the camera with its image, and the node's `~/markers` in the camera's frame, both at
their stamps.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import MarkerArray

from face_pose_ros.ros.camera_info import CameraInfoError, camera_from_info
from face_pose_ros.ros.camera_sync import CameraSync
from face_pose_ros.ros.conversions import stamp_ns
from face_pose_ros.ros.declaring import declare_options
from face_pose_ros.ros.images import ImageError, image_to_rgb
from face_pose_ros.ros.spinning import leave, run
from face_pose_ros.ros.topics import subscribe, transported

try:
    import rerun as rr
except ModuleNotFoundError as error:
    raise SystemExit(
        'face_pose_view needs the rerun SDK, which is not installed: '
        'pip install --no-deps -r requirements-view.txt (`make demo VIEW=1` does it)'
    ) from error

from face_pose_ros.ros.view.parameters import ViewParameters
from face_pose_ros.ros.view.scene import Scene, blueprint

_KEPT = 16  # images kept until the node has processed them
_WARNING_PERIOD_S = 5.0


class ViewError(Exception):
    """The view cannot be shown or recorded; the text names the parameter."""


class ViewNode(Node):
    """Logs the images that a pose node has processed, and its markers.

    Other images are not logged, so that image and heads always belong together.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Open the recording and subscribe.

        Args:
            kwargs: Passed on to `rclpy.node.Node`.

        Raises:
            ViewError: The file can't be written, or there is no display.
        """
        super().__init__('face_pose_view', **kwargs)
        parameters = declare_options(self, ViewParameters())
        self.output = Path(parameters.output)
        self._transport = parameters.image_transport
        self._rectified = parameters.image_is_rectified
        self._recording = rr.RecordingStream('face_pose')
        self._open_recording(parameters.spawn)
        self._scene = Scene(self._recording)
        self._frames: OrderedDict[int, tuple[Image | CompressedImage, CameraInfo]] = OrderedDict()
        self._sync: CameraSync[Image | CompressedImage] = CameraSync(
            self._on_pair, lambda *_: None
        )
        self._answers_sub = self.create_subscription(
            PoseArray, 'face_pose/poses', self._on_answer, 10
        )
        self.create_subscription(MarkerArray, 'face_pose/markers', self._scene.log_markers, 10)
        self._timer = self.create_timer(0.1, self._subscribe_to_camera)

    def _open_recording(self, spawn: bool) -> None:
        if spawn and not any(name in os.environ for name in ('DISPLAY', 'WAYLAND_DISPLAY')):
            raise ViewError('parameter spawn: no display, expected DISPLAY or WAYLAND_DISPLAY')
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            sinks: list[rr.FileSink | rr.GrpcSink] = [rr.FileSink(self.output)]
            if spawn:
                self._recording.spawn(connect=False, hide_welcome_screen=True)
                sinks.append(rr.GrpcSink())
            self._recording.set_sinks(*sinks, default_blueprint=blueprint())
        except (OSError, RuntimeError) as error:
            raise ViewError(f'parameter output: {self.output}: {error}') from error

    def _subscribe_to_camera(self) -> None:
        # A file source starts with its first subscriber, which must be the pose node.
        if not self.count_publishers(self._answers_sub.topic_name):
            return
        self._timer.cancel()
        topic, kind = transported(self, 'image', self._transport)
        subscribe(self, kind, topic, self._sync.add_image)
        subscribe(self, CameraInfo, 'camera_info', self._sync.add_info)

    def _on_pair(self, image: Image | CompressedImage, info: CameraInfo) -> None:
        self._frames[stamp_ns(image.header.stamp)] = image, info
        if len(self._frames) > _KEPT:
            self._frames.popitem(last=False)

    def _on_answer(self, poses: PoseArray) -> None:
        taken_ns = stamp_ns(poses.header.stamp)
        frame = self._frames.pop(taken_ns, None)
        if frame is None:
            return
        image, info = frame
        try:
            rgb, camera = image_to_rgb(image), camera_from_info(info, self._rectified)
        except (ImageError, CameraInfoError) as error:
            self.get_logger().warning(str(error), throttle_duration_sec=_WARNING_PERIOD_S)
            return
        self._scene.log_image(rgb, camera, taken_ns)

    def destroy_node(self) -> None:
        """Write the remaining data, then destroy the node."""
        self._recording.disconnect()
        super().destroy_node()


def main(args: list[str] | None = None) -> None:
    """Show and record until interrupted; exit status 1 if this is not possible."""
    node = run('face_pose_view', ViewNode, args, (ViewError,))
    if node:
        node.destroy_node()
        print('written:', node.output)
    leave(0)
