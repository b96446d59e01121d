# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images beside the camera's: which belongs to an image, and whether it can be right."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.results import DepthEvidence, FacePose
from face_pose_ros.ros.camera_info import CameraInfoError, camera_from_info
from face_pose_ros.ros.images import ImageError, image_rows
from face_pose_ros.ros.plausibility import Finding, News

Lookup = Callable[[str, str, Time], NDArray[np.float64]]

_MEMORY = 8  # depth images; a busy machine is late by a few
# What is wrong in so many images, or faces, in a row is no accident.
_IN_A_ROW = 5
_FACES = 20  # of which the median share of agreeing points is taken
_FEW_AGREE = 0.55
_MIN_MEASURED = 12  # points of a face, to say anything of it
_TYPES = {'16UC1': 'u2', 'mono16': 'u2', '32FC1': 'f4'}


def depth_pixels(msg: Image) -> NDArray:
    """Pixels of a depth image message, (H, W) uint16 in mm or float32 in m.

    Raises:
        ImageError: It is of another encoding, or size, step and data do not fit together.
    """
    kind = _TYPES.get(msg.encoding)
    if kind is None:
        raise ImageError(
            f"encoding '{msg.encoding}', expected 16UC1 (millimetres) or 32FC1 (metres)"
        )
    if msg.height == 0 or msg.width == 0:
        raise ImageError(f'image of {msg.width} x {msg.height} px, expected a positive size')
    rows = image_rows(msg, msg.height, msg.width * int(kind[1]))
    order = '>' if msg.is_bigendian else '<'
    return np.ascontiguousarray(rows).view(order + kind).astype(kind, copy=False)


class DepthInput:
    """The last depth images and their camera; messages and images come on different threads."""

    def __init__(
        self, topic: str, info_topic: str, max_offset_s: float, rectified: bool, lookup: Lookup
    ) -> None:
        """Wait for messages.

        Args:
            topic: Of the depth images, for texts; likewise info_topic.
            info_topic: Of their camera.
            max_offset_s: Between the stamps of an image and its depth image, at most [s].
            rectified: Whether images, and depth images in the same frame, are rectified.
            lookup: Pose T_target_source (4, 4) of target, source and stamp; raises ValueError.
        """
        self.topic, self.info_topic = topic, info_topic
        self.needs_tf = False  # whether the depth camera has a frame of its own
        self.findings: list[Finding] = []
        self._max_offset_s, self._rectified, self._lookup = max_offset_s, rectified, lookup
        self._lock = threading.Lock()
        self._images: OrderedDict[int, Image] = OrderedDict()  # by stamp [ns]
        self._info: CameraInfo | None = None
        self._camera: tuple[CameraInfo, bool, Camera] | None = None
        self._wrong: Finding | None = None  # of the last images, or faces
        self._count = 0  # how many in a row
        self._agreeing: deque[float] = deque(maxlen=_FACES)
        self._news = News(most=1)
        self._used, self._faces = 0, 0  # of the last image's faces

    def add_image(self, msg: Image) -> None:
        """A depth image has arrived."""
        with self._lock:
            self._images[_ns(msg.header.stamp)] = msg
            if len(self._images) > _MEMORY:
                self._images.popitem(last=False)

    def add_info(self, msg: CameraInfo) -> None:
        """The depth camera's calibration has arrived; the newest one holds for all images."""
        with self._lock:
            self._info = msg

    def at(self, header: Header) -> DepthImage | None:
        """The depth image of an image with this header; None if there is none that can be used."""
        stamp_ns = _ns(header.stamp)
        with self._lock:
            info = self._info
            nearest_ns = min(self._images, key=lambda ns: abs(ns - stamp_ns), default=None)
            msg = None if nearest_ns is None else self._images[nearest_ns]
        if msg is None or nearest_ns is None or info is None:
            return None  # its silence is told elsewhere
        offset_s = 1e-9 * (nearest_ns - stamp_ns)
        if abs(offset_s) > self._max_offset_s:
            self._note(
                Finding(
                    'depth stamp',
                    'apart',
                    f'{self.topic}: the nearest depth image is {abs(offset_s):.3f} s '
                    f'{"later" if offset_s > 0 else "earlier"} than the image, expected at most '
                    f'{self._max_offset_s:g} s (depth_max_offset_s): are both stamped by one '
                    'clock, when they are taken? Poses are without depth',
                )
            )
            return None
        try:
            return self._made_of(msg, info, header)
        except (ImageError, ValueError) as error:
            self._note(Finding('depth image', str(error).split(',')[0], f'{self.topic}: {error}'))
            return None

    def judge(self, faces: Sequence[FacePose]) -> None:
        """Note what the depth image said of the faces of one image."""
        told = [face.depth for face in faces if face.depth is not None]
        self._faces, self._used = len(faces), sum(depth.agreeing > 0 for depth in told)
        for depth in told:
            if depth.measured < _MIN_MEASURED:
                continue  # out of its range, or of its picture
            self._agreeing.append(depth.agreeing / depth.measured)
            if depth.agreeing == 0:
                self._note(self._misfit(depth))
            elif len(self._agreeing) == _FACES and np.median(self._agreeing) < _FEW_AGREE:
                self._note(self._not_aligned('fits the faces in part'))
            else:
                self._wrong, self._count, self.findings = None, 0, []

    def news(self) -> list[Finding]:
        """What is wrong and was not told yet."""
        return self._news.among(self.findings)

    @property
    def state(self) -> str:
        """In a few words, for diagnostics."""
        if self.findings:
            return self.findings[0].text
        return f'{self._used} of {self._faces} faces have a depth'

    def _made_of(self, msg: Image, info: CameraInfo, header: Header) -> DepthImage | None:
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
                    f"frame '{frames[1]}' is not the image's, '{frames[0]}', and {error}. Publish "
                    'the transform, or let the driver align depth to colour'
                ) from error
        if pixels.shape != (camera.height, camera.width):
            raise ImageError(
                f'{pixels.shape[1]} x {pixels.shape[0]} px, expected {camera.width} x '
                f'{camera.height} as {self.info_topic} says'
            )
        depth = DepthImage(pixels, camera, T_cam_depth)
        some = pixels[::8, ::8]
        if depth.share_measured == 0:
            raise ValueError('no pixel has a depth, expected one on most: is the sensor covered?')
        if some.size > 1 and (some == some[0, 0]).all():
            raise ValueError(
                f'all pixels are {some[0, 0]:g}, expected different ones: is it saturated?'
            )
        return depth

    def _camera_of(self, info: CameraInfo, rectified: bool) -> Camera:
        known = self._camera
        if known is None or known[1] != rectified or not _same(known[0], info):
            try:
                known = info, rectified, camera_from_info(info, rectified)
            except CameraInfoError as error:
                raise ValueError(f'its calibration on {self.info_topic}: {error}') from error
            self._camera = known
        return known[2]

    def _misfit(self, depth: DepthEvidence) -> Finding:
        """Of a face with whose depth nothing could be done."""
        for ratio, text in (
            (1000, 'in millimetres, expected metres, as 32FC1 has them'),
            (0.001, 'in metres, expected millimetres, as 16UC1 has them'),
        ):
            if 0.5 < depth.size_ratio / ratio < 2:
                return Finding(
                    'depth unit',
                    f'{ratio:g}',
                    f'{self.topic} is {text}: faces are {depth.size_ratio:.3g} times as far as '
                    'they look. Poses are without depth',
                )
        return self._not_aligned('does not fit the faces')

    def _not_aligned(self, what: str) -> Finding:
        return Finding(
            'depth alignment',
            what,
            f'{self.topic} {what}: is it aligned to the image, is {self.info_topic} its own '
            'calibration, and is its frame_id that of the camera whose pixels it has?',
        )

    def _note(self, finding: Finding) -> None:
        """Something is wrong with this image or face; told when it lasts."""
        same = self._wrong is not None and self._wrong.key == finding.key
        self._count = self._count + 1 if same else 1
        self._wrong = finding
        if self._count >= _IN_A_ROW:
            self.findings = [finding]


def _same(a: CameraInfo, b: CameraInfo) -> bool:
    """Whether two messages are of one calibration."""
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ('width', 'height', 'k', 'd', 'p', 'distortion_model')
    ) and (a.roi, a.binning_x, a.binning_y) == (b.roi, b.binning_x, b.binning_y)


def _ns(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec
