# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Converts an Image and its CameraInfo to faces, without a node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from face_pose_ros.engines.shared import SharedNetworks
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.faces.head_detector import MIN_IMAGE_PX
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.results import FacePose
from face_pose_ros.ros.camera_info import (
    CameraInfoError,
    camera_from_info,
    same_calibration,
    size_text,
)
from face_pose_ros.ros.depth_input import DepthInput
from face_pose_ros.ros.images import DamagedImageError, ImageError, image_to_rgb
from face_pose_ros.ros.parameters import Parameters
from face_pose_ros.ros.plausibility import Finding, News, findings

_LATE_S = 0.2  # an image this much older than the last one is late; a larger step is the clock's


class FrameError(Exception):
    """An unusable frame; the text names the topic and what was expected."""

    def __init__(self, reason: str, text: str) -> None:
        """Set the reason, from a small fixed set, and the text."""
        super().__init__(text)
        self.reason = reason


class Answer(NamedTuple):
    """Results of a frame."""

    faces: list[FacePose]
    camera: Camera
    rgb: np.ndarray  # (H, W, 3) uint8
    stages_s: dict[str, float]  # duration of each stage


class FramePipeline:
    """The estimator and the state of one image stream."""

    def __init__(
        self,
        parameters: Parameters,
        image_topic: str,
        info_topic: str,
        warn: Callable[[str, str], None],
        shared: SharedNetworks | None = None,
        id_prefix: str = '',
        threads: int | None = None,
    ) -> None:
        """Load the networks and warm up, so that the first image is not delayed.

        Args:
            parameters: Snapshot; its `device` and `image_is_rectified` are used from now on.
            image_topic: Topic name for messages.
            info_topic: Topic name for messages.
            warn: Called with cause and text of each warning.
            shared: Networks shared with other cameras; None: its own.
            id_prefix: Prefix of every id, so that ids of several cameras differ.
            threads: CPU threads if `parameters` have 0; None: all cores.

        Raises:
            ValueError: The device does not exist, or is not that of the shared networks.
            WeightsError: A weights file is missing or damaged.
        """
        self._parameters = parameters
        self._image_topic, self._info_topic = image_topic, info_topic
        self._warn = warn
        self._shared = shared
        self._id_prefix = id_prefix
        self._threads = parameters.threads or threads
        self._camera: tuple[CameraInfo, Camera] | None = None
        self.findings: list[Finding] = []  # implausible values of the calibration
        self.depth: DepthInput | None = None  # set by the node if there is a depth camera
        self._news = News()
        self.estimator = self._load()

    def reload(self) -> None:
        """Load the networks again, for instance after a lost device; tracks are kept."""
        tracker = self.estimator.tracker
        self.estimator = self._load()
        self.estimator.tracker = tracker

    def _load(self) -> FacePoseEstimator:
        device, options = self._parameters.device, self._parameters.estimator
        networks = self._shared.load(device, self._threads) if self._shared else None
        estimator = FacePoseEstimator(device, options, networks, self._threads)
        estimator.tracker.id_prefix = self._id_prefix
        estimator.warm_up()
        return estimator

    def reset(self) -> None:
        """Delete all tracks."""
        self.estimator.drop_pending_detection()
        self.estimator.tracker.reset()

    def answer(
        self, image: Image | CompressedImage, info: CameraInfo, parameters: Parameters
    ) -> Answer:
        """Faces of the next frame of the stream.

        Args:
            image: The image.
            info: Its CameraInfo.
            parameters: Snapshot; the options of the estimator may differ from frame to frame.

        Raises:
            FrameError: The messages are unusable, or the stamp is not later than the last one.
        """
        begin_s = time.perf_counter()
        stamp_s = image.header.stamp.sec + 1e-9 * image.header.stamp.nanosec
        last_s = self.estimator.tracker.stamp_s
        if stamp_s == last_s:
            raise FrameError(
                'same stamp', f'{self._image_topic}: two images have the stamp {stamp_s:.9f}'
            )
        if last_s - _LATE_S < stamp_s < last_s:
            raise FrameError(
                'late',
                f'{self._image_topic}: an image is {1000 * (last_s - stamp_s):.0f} ms older than '
                'the one before it; it is dropped',
            )
        if image.header.frame_id != info.header.frame_id:
            self._warn(
                'frame_id',
                f"{self._info_topic} has frame_id '{info.header.frame_id}', expected the image's "
                f"'{image.header.frame_id}'; poses are given in the image's frame",
            )
        camera = self._camera_of(info, image.header.frame_id)
        rgb = self._rgb_of(image, info, camera)
        converted_s = time.perf_counter()
        if stamp_s < last_s:
            self._warn(
                'time',
                f'the stamp of {self._image_topic} went back by {last_s - stamp_s:.3f} s: '
                'all tracks are deleted',
            )
        if parameters.estimator != self.estimator.options:
            self.estimator.configure(parameters.estimator)
        depth = self.depth
        if depth is None:
            faces = self.estimator.track(rgb, camera, stamp_s)
        else:
            # As late as possible, because a depth image often arrives after the image.
            faces = self.estimator.track(rgb, camera, stamp_s, lambda: depth.at(image.header))
            depth.judge(faces)
            for finding in depth.news():
                self._warn(f'{finding.key} {finding.value}', finding.text)
        estimate_s = time.perf_counter() - converted_s
        return Answer(
            faces, camera, rgb, {'convert': converted_s - begin_s, 'estimate': estimate_s}
        )

    def _rgb_of(
        self, image: Image | CompressedImage, info: CameraInfo, camera: Camera
    ) -> np.ndarray:
        try:
            rgb = image_to_rgb(image)
        except ImageError as error:
            reason = 'damaged' if isinstance(error, DamagedImageError) else 'image'
            raise FrameError(reason, f'{self._image_topic}: {error}') from error
        if rgb.shape[:2] != (camera.height, camera.width):
            raise FrameError(
                'size',
                f'{self._image_topic} is {rgb.shape[1]} x {rgb.shape[0]} px, expected '
                f'{size_text(info, camera)} as in {self._info_topic}',
            )
        if min(rgb.shape[:2]) < MIN_IMAGE_PX:
            raise FrameError(
                'size',
                f'{self._image_topic} is {rgb.shape[1]} x {rgb.shape[0]} px, expected at least '
                f'{MIN_IMAGE_PX} px on each side',
            )
        return rgb

    def _camera_of(self, info: CameraInfo, frame_id: str) -> Camera:
        """The camera; an unchanged calibration is not converted again."""
        if self._camera is None or not same_calibration(self._camera[0], info):
            rectified = self._parameters.image_is_rectified
            try:
                camera = camera_from_info(info, rectified)
            except CameraInfoError as error:
                raise FrameError('camera_info', f'{self._info_topic}: {error}') from error
            self._camera = info, camera
            self.findings = findings(info, camera, rectified, self._image_topic, frame_id)
            for finding in self._news.among(self.findings):
                cause = f'{finding.key} {finding.value}'
                self._warn(cause, f'{self._info_topic}: {finding.text}')
        return self._camera[1]
