"""The demo's camera: portraits seen by a virtual camera that turns, zooms and changes its lens.

Publishes `image` and `camera_info`, and on /tf the exact frames: world -> the camera, which turns,
and world -> portrait_<name>, which stands still and tells whose portrait is shown.
"""

from __future__ import annotations

import array
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
from tqdm import tqdm

from face_pose_ros.evaluation.portraits import load_portraits
from face_pose_ros.evaluation.virtual_camera import (
    LENSES,
    View,
    lens_camera,
    look_at,
    photo_camera,
    render_view,
)
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros.compat import TransformBroadcaster
from face_pose_ros.ros.conversions import camera_info_msg, transform_msg

WIDTH, HEIGHT = 640, 480  # px
RATE_HZ = 30.0
SCENE_S = 6.0
SWEEP_S = 2.0
PAUSE_S = 1.5  # without a portrait, between two of them
PORTRAIT_FRAME = 'portrait_'

# Middle of the face in each portrait [px], where the camera is aimed.
_AIM_UV = {'grace_hopper': (263, 232), 'astronaut': (226, 124)}


@dataclass(frozen=True)
class Shot:
    """One picture of the virtual camera."""

    rgb: NDArray[np.uint8]  # (HEIGHT, WIDTH, 3)
    camera: Camera
    R_world_cam: NDArray[np.float64]  # (3, 3)


@dataclass(frozen=True)
class Scene:
    """One sweep of the camera over a portrait, shown forth and back; no portrait is a pause."""

    portrait: str
    shots: Sequence[Shot]
    frames: int

    def shot(self, frame: int) -> Shot:
        """The picture to show at a frame of this scene."""
        turn = frame % (2 * len(self.shots))
        return self.shots[min(turn, 2 * len(self.shots) - 1 - turn)]


def make_scenes() -> list[Scene]:
    """Both portraits through every lens, and a pause between them."""
    portraits, scenes = load_portraits(), []
    for portrait in _AIM_UV:
        for lens in tqdm(LENSES, desc=f'rendering {portrait}', disable=None):
            shots = _sweep(portraits[portrait], _AIM_UV[portrait], lens)
            scenes.append(Scene(portrait, shots, round(SCENE_S * RATE_HZ)))
        grey = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
        pause = [Shot(grey, shot.camera, shot.R_world_cam) for shot in shots[:1]]
        scenes.append(Scene('', pause, round(PAUSE_S * RATE_HZ)))
    return scenes


def _sweep(photo: NDArray[np.uint8], aim_uv: tuple[float, float], lens: str) -> list[Shot]:
    """Pan, tilt, roll and zoom from one end to the other, slow at both ends."""
    photo_cam = photo_camera(photo.shape[1], photo.shape[0])
    ray = photo_cam.unproject(photo_cam.f.new_tensor([aim_uv])).rays[0].numpy()
    views = []
    for phase in np.linspace(0, np.pi, round(SWEEP_S * RATE_HZ)):
        sweep = -np.cos(phase)
        angles = 14 * sweep, 8 * np.sin(2 * phase), 14 * np.sin(phase - 0.5)
        turn = Rotation.from_euler('YXZ', angles, degrees=True).as_matrix()
        f = 520 + 150 * sweep
        K = [f, 0, 0.5 * WIDTH + 21, 0, 1.02 * f, 0.5 * HEIGHT - 15, 0, 0, 1]
        views.append(View(look_at(ray) @ turn, lens_camera(K, WIDTH, HEIGHT, lens)))
    # All that is kept is allocated before the rendering, whose large buffers would otherwise
    # leave gigabytes of holes between the pieces.
    pictures = np.empty((len(views), HEIGHT, WIDTH, 3), np.uint8)
    for rgb, view in zip(pictures, views, strict=True):
        rgb[:] = render_view(photo, photo_cam, view)
    return [Shot(rgb, v.camera, v.R_photo_cam) for rgb, v in zip(pictures, views, strict=True)]


def _bytes(rgb: NDArray[np.uint8]) -> array.array[int]:
    # rclpy takes an array of bytes as it is; anything else it checks number by number.
    data = array.array('B')
    data.frombytes(rgb.data.cast('B'))
    return data


class DemoCamera(Node):
    """A camera that any pose can be checked against."""

    def __init__(self) -> None:
        super().__init__('demo_camera')
        self.frame = str(self.declare_parameter('frame_id', 'demo_camera_optical').value)
        self._image_pub = self.create_publisher(Image, 'image', qos_profile_sensor_data)
        self._info_pub = self.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
        self._tf = TransformBroadcaster(self)
        scenes = make_scenes()
        self._script = ((s.portrait, s.shot(i)) for s in scenes for i in range(s.frames))
        self.finished = False
        self._timer = self.create_timer(1 / RATE_HZ, self._show)

    def _show(self) -> None:
        # The demo begins when the pose node is there and looks.
        if not self.count_publishers('face_pose/poses') or not self.count_subscribers('image'):
            return
        portrait, shot = next(self._script, ('', None))
        if shot is None:
            self.finished = True
            self._timer.cancel()
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self.frame)
        world = Header(stamp=header.stamp, frame_id='world')
        T_world_cam = np.eye(4)
        T_world_cam[:3, :3] = shot.R_world_cam
        transforms = [transform_msg(T_world_cam, world, self.frame)]
        if portrait:
            transforms.append(transform_msg(np.eye(4), world, PORTRAIT_FRAME + portrait))
        self._tf.sendTransform(transforms)
        self._info_pub.publish(camera_info_msg(shot.camera, header))
        self._image_pub.publish(
            Image(
                header=header,
                height=HEIGHT,
                width=WIDTH,
                encoding='rgb8',
                step=3 * WIDTH,
                data=_bytes(shot.rgb),
            )
        )


def main(args: list[str] | None = None) -> None:
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
