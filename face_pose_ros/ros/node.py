"""The pose node: Image and CameraInfo in, poses and TF out."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import rclpy
import torch
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from face_pose_ros.estimator import FacePose, FacePoseEstimator
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros import conversions
from face_pose_ros.ros.camera_sync import CameraSync
from face_pose_ros.ros.compat import TransformBroadcaster
from face_pose_ros.ros.parameters import ParameterError, declare_parameters
from face_pose_ros.weights import WeightsError

_WARNING_PERIOD_S = 5.0  # of the same warning


class PoseNode(Node):
    """Heads of all people in view, for every image that can be worked on in time.

    Messages arrive on the executor's thread; one worker thread takes the newest frame whenever it
    is free, so nothing queues and no callback waits for a network.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters, load the networks, connect.

        Args:
            kwargs: Passed on to `rclpy.node.Node`.

        Raises:
            ParameterError: See `declare_parameters`.
            ValueError: The device does not exist.
            WeightsError: A weights file is missing or damaged.
        """
        super().__init__('face_pose', **kwargs)
        # What destroy_node needs comes first: rclpy calls it too when the rest fails.
        self._frame_ready = threading.Condition()
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name='face_pose', daemon=True)
        self.parameters = declare_parameters(self)
        if self.parameters.threads:
            torch.set_num_threads(self.parameters.threads)
        self.estimator = FacePoseEstimator(self.parameters.device, self.parameters.estimator)

        self._warned_s: dict[str, float] = {}
        self._camera: tuple[CameraInfo, Camera] | None = None
        self._newest: tuple[Image | CompressedImage, CameraInfo] | None = None

        self._pose_pub = self.create_publisher(PoseStamped, '~/pose', 10)
        self._covariance_pub = self.create_publisher(
            PoseWithCovarianceStamped, '~/pose_with_covariance', 10
        )
        self._poses_pub = self.create_publisher(PoseArray, '~/poses', 10)
        self._face_pubs: dict[str, tuple[Publisher, Publisher]] = {}
        self._tf = TransformBroadcaster(self)

        compressed = self.parameters.image_transport == 'compressed'
        self.image_topic = self.resolve_topic_name('image') + ('/compressed' if compressed else '')
        self.info_topic = self.resolve_topic_name('camera_info')
        self._sync: CameraSync[Image | CompressedImage] = CameraSync(
            self._take_frame, self._warn_unpaired
        )
        self.create_subscription(
            CompressedImage if compressed else Image,
            self.image_topic,
            self._sync.add_image,
            qos_profile_sensor_data,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.create_subscription(
            CameraInfo,
            self.info_topic,
            self._sync.add_info,
            qos_profile_sensor_data,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._worker.start()
        self.get_logger().info(
            f'images from {self.image_topic}, calibration from {self.info_topic}, '
            f'networks on {self.estimator.device}'
        )

    def destroy_node(self) -> None:
        """Stop the worker, then the node."""
        with self._frame_ready:
            self._stopping = True
            self._frame_ready.notify()
        if self._worker.is_alive():
            self._worker.join()
        super().destroy_node()

    def _take_frame(self, image: Image | CompressedImage, info: CameraInfo) -> None:
        with self._frame_ready:
            self._newest = image, info
            self._frame_ready.notify()

    def _work(self) -> None:
        while True:
            with self._frame_ready:
                self._frame_ready.wait_for(lambda: self._stopping or self._newest is not None)
                if self._stopping:
                    return
                frame, self._newest = self._newest, None
            assert frame is not None
            try:
                self._process(*frame)
            # Whatever one frame does, the node goes on with the next; nothing is hidden.
            except Exception as error:
                if not self.context.ok():
                    return  # shut down in the middle of a frame
                self._warn('frame', f'frame from {self.image_topic} lost: {error!r}')

    def _process(self, image: Image | CompressedImage, info: CameraInfo) -> None:
        if image.header.frame_id != info.header.frame_id:
            self._warn(
                'frame_id',
                f"{self.info_topic} has frame_id '{info.header.frame_id}', expected the image's "
                f"'{image.header.frame_id}'; poses are given in the image's frame",
            )
        try:
            camera = self._camera_of(info)
        except conversions.CameraInfoError as error:
            self._warn('camera_info', f'{self.info_topic}: {error}')
            return
        try:
            if isinstance(image, CompressedImage):
                rgb = conversions.compressed_image_to_rgb(image)
            else:
                rgb = conversions.image_to_rgb(image)
        except conversions.ImageError as error:
            self._warn('image', f'{self.image_topic}: {error}')
            return
        if rgb.shape[:2] != (camera.height, camera.width):
            self._warn(
                'size',
                f'{self.image_topic} is {rgb.shape[1]} x {rgb.shape[0]} px, expected '
                f'{camera.width} x {camera.height} px as {self.info_topic} says',
            )
            return
        stamp = image.header.stamp
        faces = self.estimator.track(rgb, camera, stamp.sec + 1e-9 * stamp.nanosec)
        self._publish(faces, image)

    def _camera_of(self, info: CameraInfo) -> Camera:
        """The camera; a calibration that did not change is not read again."""
        if self._camera is None or not _same_calibration(self._camera[0], info):
            camera = conversions.camera_from_info(info, self.parameters.image_is_rectified)
            self._camera = info, camera
        return self._camera[1]

    def _publish(self, faces: Sequence[FacePose], image: Image | CompressedImage) -> None:
        header = image.header
        self._poses_pub.publish(conversions.pose_array_msg(faces, header))
        if self.parameters.publish_tf and faces:
            self._tf.sendTransform(
                [t for face in faces for t in conversions.face_transforms(face, header)]
            )
        for face in faces:
            pose_pub, covariance_pub = self._publishers_of(face.id)
            pose_pub.publish(conversions.pose_stamped_msg(face, header))
            covariance_pub.publish(conversions.pose_with_covariance_msg(face, header))
        if faces:
            # The primary face: whoever stands nearest.
            nearest = min(faces, key=lambda face: float(np.linalg.norm(face.T_cam_head[:3, 3])))
            self._pose_pub.publish(conversions.pose_stamped_msg(nearest, header))
            self._covariance_pub.publish(conversions.pose_with_covariance_msg(nearest, header))
        for lost in self._face_pubs.keys() - set(self.estimator.tracker.ids):
            for publisher in self._face_pubs.pop(lost):
                self.destroy_publisher(publisher)

    def _publishers_of(self, face_id: str) -> tuple[Publisher, Publisher]:
        if face_id not in self._face_pubs:
            self._face_pubs[face_id] = (
                self.create_publisher(PoseStamped, f'~/faces/{face_id}/pose', 10),
                self.create_publisher(
                    PoseWithCovarianceStamped, f'~/faces/{face_id}/pose_with_covariance', 10
                ),
            )
        return self._face_pubs[face_id]

    def _warn_unpaired(self, image: Image | CompressedImage) -> None:
        stamp = image.header.stamp
        self._warn(
            'unpaired',
            f'no CameraInfo on {self.info_topic} for the image on {self.image_topic} with stamp '
            f'{stamp.sec}.{stamp.nanosec:09d}, expected one of the same stamp',
        )

    def _warn(self, cause: str, text: str) -> None:
        """Warn once in a while for each cause, so that one does not hide another."""
        now_s = time.monotonic()
        if now_s - self._warned_s.get(cause, -_WARNING_PERIOD_S) >= _WARNING_PERIOD_S:
            self._warned_s[cause] = now_s
            self.get_logger().warning(text)


def _same_calibration(a: CameraInfo, b: CameraInfo) -> bool:
    """Equal in everything but the header."""
    names = [name for name in a.get_fields_and_field_types() if name != 'header']
    return all(_equal(getattr(a, name), getattr(b, name)) for name in names)


def _equal(a: Any, b: Any) -> bool:
    if hasattr(a, '__len__') and not isinstance(a, str):
        return list(a) == list(b)
    return bool(a == b)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    rclpy.init(args=args)
    try:
        node = PoseNode()
    except (ParameterError, WeightsError, ValueError) as error:
        rclpy.logging.get_logger('face_pose').fatal(str(error))
        rclpy.try_shutdown()
        sys.exit(1)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
