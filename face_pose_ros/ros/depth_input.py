# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images: selects the one of an image, and checks whether it is plausible."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.results import DepthEvidence, FacePose
from face_pose_ros.ros import conversions
from face_pose_ros.ros.camera_info import CameraInfoError, camera_from_info, same_calibration
from face_pose_ros.ros.depth_images import depth_pixels
from face_pose_ros.ros.images import ImageError
from face_pose_ros.ros.plausibility import Finding, News

Lookup = Callable[[str, str, Time], NDArray[np.float64]]

_MEMORY = 8  # depth images; a busy machine is late by a few
_IN_A_ROW = 5  # a problem is reported after so many images, or faces, in a row
_FACES = 20  # over which the median share of agreeing points is taken
_FEW_AGREE = 0.55  # a smaller median share is reported
_MIN_MEASURED = 12  # points; a face with fewer is not judged


class DepthInput:
    """The last depth images and their camera; thread-safe."""

    def __init__(
        self, topic: str, info_topic: str, max_offset_s: float, rectified: bool, lookup: Lookup
    ) -> None:
        """Wait for messages.

        Args:
            topic: Topic of the depth images, for messages.
            info_topic: Topic of their CameraInfo, for messages.
            max_offset_s: Largest difference between the stamps of image and depth image [s].
            rectified: Whether images, and depth images in the same frame, are rectified.
            lookup: Pose T_target_source (4, 4) of target, source and stamp; raises ValueError.
        """
        self.topic, self.info_topic = topic, info_topic
        self.needs_tf = False  # whether the depth camera has another frame than the images
        self.findings: list[Finding] = []
        self._max_offset_s, self._rectified, self._lookup = max_offset_s, rectified, lookup
        self._lock = threading.Lock()
        self._images: OrderedDict[int, Image | CompressedImage] = OrderedDict()  # by stamp [ns]
        self._info: CameraInfo | None = None
        self._camera: tuple[CameraInfo, bool, Camera] | None = None
        self._wrong: Finding | None = None  # problem of the last images, or faces
        self._count = 0  # how often in a row
        self._agreeing: deque[float] = deque(maxlen=_FACES)
        self._news = News(most=1)
        self._used, self._faces = 0, 0  # of the last image's faces

    def add_image(self, msg: Image | CompressedImage) -> None:
        """A depth image has arrived."""
        with self._lock:
            self._images[conversions.stamp_ns(msg.header.stamp)] = msg
            if len(self._images) > _MEMORY:
                self._images.popitem(last=False)

    def add_info(self, msg: CameraInfo) -> None:
        """The depth camera's calibration has arrived; the newest one is used for all images."""
        with self._lock:
            self._info = msg

    def at(self, header: Header) -> DepthImage | None:
        """The depth image of the image with this header; None if there is no usable one."""
        stamp_ns = conversions.stamp_ns(header.stamp)
        with self._lock:
            info = self._info
            nearest_ns = min(self._images, key=lambda ns: abs(ns - stamp_ns), default=None)
            msg = None if nearest_ns is None else self._images[nearest_ns]
        if msg is None or nearest_ns is None or info is None:
            return None  # SilenceWatch reports it
        offset_s = 1e-9 * (nearest_ns - stamp_ns)
        if abs(offset_s) > self._max_offset_s:
            self._note(
                Finding(
                    'depth stamp',
                    'apart',
                    f'{self.topic}: the nearest depth image is {abs(offset_s):.3f} s '
                    f'{"later" if offset_s > 0 else "earlier"} than the image, expected at most '
                    f'{self._max_offset_s:g} s (depth_max_offset_s); poses do not use depth. '
                    'Check that both drivers stamp with the same clock at the time of capture, '
                    'and that depth images come as often as images',
                )
            )
            return None
        try:
            return self._made_of(msg, info, header)
        except (ImageError, ValueError) as error:
            self._note(Finding('depth image', str(error).split(',')[0], f'{self.topic}: {error}'))
            return None

    def judge(self, faces: Sequence[FacePose]) -> None:
        """Check the depth of the faces of one image."""
        with_depth = [face.depth for face in faces if face.depth is not None]
        self._faces, self._used = len(faces), sum(depth.agreeing > 0 for depth in with_depth)
        for depth in with_depth:
            if depth.measured < _MIN_MEASURED:
                continue  # outside its range or its image
            self._agreeing.append(depth.agreeing / depth.measured)
            if depth.agreeing == 0:
                self._note(self._misfit(depth))
            elif len(self._agreeing) == _FACES and np.median(self._agreeing) < _FEW_AGREE:
                self._note(self._not_aligned('fits the faces only in part'))
            else:
                self._wrong, self._count, self.findings = None, 0, []

    def news(self) -> list[Finding]:
        """Problems that were not reported yet."""
        return self._news.among(self.findings)

    @property
    def state(self) -> str:
        """Short text for diagnostics."""
        if self.findings:
            return self.findings[0].text
        return f'{self._used} of {self._faces} faces have a depth'

    def _made_of(
        self, msg: Image | CompressedImage, info: CameraInfo, header: Header
    ) -> DepthImage | None:
        pixels = depth_pixels(msg)
        same_frame = msg.header.frame_id == header.frame_id
        camera = self._camera_of(info, self._rectified and same_frame)
        T_cam_depth = None
        if not same_frame:
            self.needs_tf = True
            frames = header.frame_id, msg.header.frame_id
            try:
                T_cam_depth = self._lookup(*frames, msg.header.stamp)
            except ValueError as error:
                raise ValueError(
                    f"frame '{frames[1]}' differs from the image's, '{frames[0]}', and {error}. "
                    'Publish the transform, or let the driver align depth to colour'
                ) from error
        if pixels.shape != (camera.height, camera.width):
            raise ImageError(
                f'{pixels.shape[1]} x {pixels.shape[0]} px, expected {camera.width} x '
                f'{camera.height} as in {self.info_topic}'
            )
        depth = DepthImage(pixels, camera, T_cam_depth)
        some = pixels[::8, ::8]
        if depth.share_measured == 0:
            raise ValueError('no pixel has a depth, expected most to have: is the sensor covered?')
        if some.size > 1 and (some == some[0, 0]).all():
            raise ValueError(
                f'all pixels are {some[0, 0]:g}, expected different ones: is it saturated?'
            )
        return depth

    def _camera_of(self, info: CameraInfo, rectified: bool) -> Camera:
        known = self._camera
        if known is None or known[1] != rectified or not same_calibration(known[0], info):
            try:
                known = info, rectified, camera_from_info(info, rectified)
            except CameraInfoError as error:
                raise ValueError(f'its calibration on {self.info_topic}: {error}') from error
            self._camera = known
        return known[2]

    def _misfit(self, depth: DepthEvidence) -> Finding:
        """The problem of a face whose depth fits no face size."""
        for ratio, text in (
            (1000, 'in millimetres, expected metres, as defined for 32FC1'),
            (0.001, 'in metres, expected millimetres, as defined for 16UC1'),
        ):
            if 0.5 < depth.size_ratio / ratio < 2:
                return Finding(
                    'depth unit',
                    f'{ratio:g}',
                    f'{self.topic} is {text}: faces are {depth.size_ratio:.3g} times as far as '
                    'their size in the image shows. Poses do not use depth',
                )
        return self._not_aligned('does not fit the faces')

    def _not_aligned(self, what: str) -> Finding:
        return Finding(
            'depth alignment',
            what,
            f'{self.topic} {what}. Check that it is aligned to the image or has a frame_id of its '
            f'own, and that {self.info_topic} is its calibration',
        )

    def _note(self, finding: Finding) -> None:
        """Count a problem of this image or face; reported after _IN_A_ROW in a row."""
        same = self._wrong is not None and self._wrong.key == finding.key
        self._count = self._count + 1 if same else 1
        self._wrong = finding
        if self._count >= _IN_A_ROW:
            self.findings = [finding]
