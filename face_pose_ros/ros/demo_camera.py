"""The demo's camera: portraits seen by a virtual camera that turns, zooms and changes its lens.

Publishes `image` and `camera_info`, and on /tf the exact frames: world -> the camera, which turns,
and world -> portrait_<name>, which stands still and tells whose portrait is shown.
"""

from __future__ import annotations

import array
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rclpy
import torch
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.evaluation.portraits import load_portraits
from face_pose_ros.evaluation.virtual_camera import (
    View,
    lens_camera,
    look_at,
    photo_camera,
    render_view,
)
from face_pose_ros.ros.compat import TransformBroadcaster
from face_pose_ros.ros.conversions import camera_info_msg, transform_msg

WIDTH, HEIGHT = 640, 480  # px
RATE_HZ = 30.0
SCENE_S = 4.0
PAUSE_S = 1.5  # without a portrait, between two of them
PORTRAIT_FRAME = 'portrait_'

# Middle of the face in each portrait [px], where the camera is aimed.
_AIM_UV = {'grace_hopper': (263, 232), 'astronaut': (226, 124)}


@dataclass(frozen=True)
class Scene:
    """What is shown for SCENE_S seconds, after a pause if the portrait is a new one."""

    portrait: str
    lens: str
    starts_s: float


def make_scenes() -> list[Scene]:
    """Both portraits through every lens."""
    scenes, start_s = [], 0.0
    for portrait in _AIM_UV:
        for lens in ('none', 'plumb_bob', 'equidistant'):
            scenes.append(Scene(portrait, lens, start_s))
            start_s += SCENE_S
        start_s += PAUSE_S
    return scenes


class DemoCamera(Node):
    """A camera that any pose can be checked against."""

    def __init__(self) -> None:
        super().__init__('demo_camera')
        self.frame = self.declare_parameter('frame_id', 'demo_camera_optical').value
        self.loops = self.declare_parameter('loops', 1).value
        self._scenes = make_scenes()
        self._end_s = self._scenes[-1].starts_s + SCENE_S + PAUSE_S
        self._portraits = load_portraits()
        self._image_pub = self.create_publisher(Image, 'image', qos_profile_sensor_data)
        self._info_pub = self.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
        self._tf = TransformBroadcaster(self)
        self._frames = 0
        self.finished = False
        self._grey = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
        self._timer = self.create_timer(1 / RATE_HZ, self._show)

    def has_audience(self) -> bool:
        """Whether somebody has subscribed to the images yet."""
        return self.count_subscribers('image') > 0

    def _show(self) -> None:
        if self._frames == 0 and not self.has_audience():
            return
        time_s = self._frames / RATE_HZ
        self._frames += 1
        if time_s >= self.loops * self._end_s:
            self.finished = True
            self._timer.cancel()
            return
        time_s %= self._end_s
        scene = max((s for s in self._scenes if s.starts_s <= time_s), key=lambda s: s.starts_s)
        view = _view(scene, time_s - scene.starts_s, self._portraits[scene.portrait])
        shown = time_s < scene.starts_s + SCENE_S
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self.frame)
        if shown:
            photo = self._portraits[scene.portrait]
            camera = photo_camera(photo.shape[1], photo.shape[0])
            rgb = render_view(photo, camera, view, supersampling=1)
        else:
            rgb = self._grey
        T_world_cam = np.eye(4)
        T_world_cam[:3, :3] = view.R_photo_cam
        world = Header(stamp=header.stamp, frame_id='world')
        transforms = [transform_msg(T_world_cam, world, self.frame)]
        if shown:
            transforms.append(transform_msg(np.eye(4), world, PORTRAIT_FRAME + scene.portrait))
        self._tf.sendTransform(transforms)
        self._info_pub.publish(camera_info_msg(view.camera, header))
        self._image_pub.publish(_image_msg(rgb, header))


def _view(scene: Scene, time_s: float, photo: NDArray[np.uint8]) -> View:
    """A slow look around: pan, tilt, roll and zoom with unrelated periods."""
    height, width = photo.shape[:2]
    camera = photo_camera(width, height)
    ray = camera.unproject(camera.f.new_tensor([_AIM_UV[scene.portrait]])).rays[0].numpy()
    phase = 2 * math.pi * time_s / SCENE_S
    pan, tilt, roll = 14 * math.sin(phase), 10 * math.sin(2 * phase), 25 * math.sin(phase + 1)
    turn = Rotation.from_euler('YXZ', [pan, tilt, roll], degrees=True).as_matrix()
    f = 520 + 150 * math.sin(1.5 * phase)
    K = [f, 0, 0.5 * WIDTH + 21, 0, 1.02 * f, 0.5 * HEIGHT - 15, 0, 0, 1]
    return View(look_at(ray) @ turn, lens_camera(K, WIDTH, HEIGHT, scene.lens))


def _image_msg(rgb: NDArray[np.uint8], header: Header) -> Image:
    # rclpy takes an array of bytes as it is; anything else it checks number by number.
    data = array.array('B')
    data.frombytes(memoryview(rgb).cast('B'))
    return Image(
        header=header,
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding='rgb8',
        step=3 * rgb.shape[1],
        data=data,
    )


def main(args: Sequence[str] | None = None) -> None:
    """Show every scene, then leave."""
    # One thread suffices here; more would keep the pose node waiting for a core.
    torch.set_num_threads(1)
    rclpy.init(args=args)
    node = DemoCamera()
    try:
        while rclpy.ok() and not node.finished:
            rclpy.spin_once(node, timeout_sec=0.5)
        # The last message needs a moment on its way.
        time.sleep(0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        sys.exit(1)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
