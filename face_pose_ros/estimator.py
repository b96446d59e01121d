# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""FacePoseEstimator: image -> faces -> keypoints -> poses, without ROS."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros import _core
from face_pose_ros.engines.networks import Networks, Weights, load_networks
from face_pose_ros.face_poses import bounds_of_faces, coarse_poses, face_poses
from face_pose_ros.faces.ahead import DetectionAhead
from face_pose_ros.faces.head_detector import SURE_SCORE, HeadDetector
from face_pose_ros.faces.head_uncertainty import packaged_uncertainty
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.keypoints.network_output import packaged_calibration
from face_pose_ros.keypoints.predictor import FACE, FACE_MESH_INDEX, KeypointPredictor
from face_pose_ros.options import EstimatorOptions
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fit import ShapePrior, default_shape_prior, fit_pose
from face_pose_ros.results import FacePose, Faces, Keypoints, Shape
from face_pose_ros.tracking.tracker import Tracker

# A track without a measurement for longer than this needs a new detection: its face may be
# anywhere. At 5 Hz and more every track is measured at its prediction.
_FOLLOW_S = 0.21

# The keypoint network may miss a face smaller than this that the detector finds.
_KEYPOINTS_FROM_PX = 40.0


# A depth image; its pixels, if aligned to the image; or a function that returns it or None.
Depth: TypeAlias = DepthImage | NDArray | Callable[[], DepthImage | None]


class _Found(NamedTuple):
    """Measured faces of one image, as the next image needs them."""

    keypoints: Keypoints  # of N detected faces; presence 0: not a face
    uv_new: NDArray[np.float64]  # (M, 56, 2) px, of the face, where they are present
    small: Faces  # the others that are sure and too small for keypoints


class FacePoseEstimator:
    """6-DoF head poses of every face in an image of a calibrated camera.

    The networks run on the device; everything else is compiled code on the CPU.

    >>> from face_pose_ros import Camera, FacePoseEstimator
    >>> from face_pose_ros.samples import load_portraits
    >>> image, camera = load_portraits()['astronaut'], Camera.from_fov(512, 512, 28)
    >>> estimator = FacePoseEstimator('cpu')
    >>> (face,) = estimator.estimate(image, camera)
    >>> face.distance > 1
    True
    >>> [estimator.track(image, camera, stamp_s)[0].id for stamp_s in (0.0, 0.03)]
    ['f00001', 'f00001']
    """

    def __init__(
        self,
        device: str = 'auto',
        options: EstimatorOptions | None = None,
        networks: Networks | None = None,
        threads: int | None = None,
        weights: Weights | None = None,
    ) -> None:
        """Load the packaged networks.

        Args:
            device: 'cpu', 'cuda', 'cuda:<index>', or 'auto': CUDA if there is one.
            options: See `EstimatorOptions`.
            networks: To share with other estimators, instead of those of `device`.
            threads: CPU threads of one inference and of a fit of several faces; None: all cores.
            weights: Files of your own instead of packaged ones, by the packaged file's name:
                {'keypoint_network': 'mine.safetensors'}. Their checksums are logged. With
                `networks`: the files that these were loaded from.

        Raises:
            ValueError: There is no such device, or `networks` lacks the detector of `options`.
            WeightsError: A weights file is missing, truncated or altered.
        """
        self._process = 0  # that of the first image; 0: none yet
        self.options = options or EstimatorOptions()
        if networks is None:
            networks = load_networks(device, threads=threads, weights=weights)
        self.device = networks.device
        self._networks = networks
        self._weights = weights or {}
        self._threads = threads
        self.model = deformable_face()
        self._head_model = semantic_head()
        self._calibration = packaged_calibration(self._weights.get('keypoint_network'))
        self.faces_without_rays = 0  # dropped detections outside the valid range of the lens
        self.detector = self._detector()
        self.keypoints = self._predictor()
        self._ahead = DetectionAhead[Faces | _Found]()
        self.tracker = Tracker(self.options.tracking, self._population(), self.model.is_expression)

    def __repr__(self) -> str:
        return f'FacePoseEstimator(device={self.device!r}, tracks={len(self.tracker.ids)})'

    def warm_up(self) -> None:
        """Run the networks once, so that the first image does not wait for them."""
        # The size at which the detector also uses the smallest input of a 16:9 camera.
        width, height = 320, 180
        camera = Camera.from_fov(width, height, 53)
        image = np.zeros((height, width, 3), np.uint8)
        self.detector.detect(image, camera)
        for count in (1, 2):  # engines compile a network for several crops at their first use
            self.estimate(image, camera, count * [[96, 26, 224, 154]])
        # Returns about 25 MB freed by loading to the system; only glibc has this function.
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)

    def configure(self, options: EstimatorOptions) -> None:
        """Apply other options; tracks and ids are kept."""
        self.drop_pending_detection()
        self.options = options
        self.detector = self._detector()
        self.keypoints = self._predictor()
        self.tracker.configure(options.tracking, self._population())

    def drop_pending_detection(self) -> None:
        """Drop the detection started for the next image; then `tracker` is the only state."""
        self._ahead.forget()

    def estimate(
        self,
        image: NDArray[np.uint8],
        camera: Camera,
        boxes_xyxy: ArrayLike | None = None,
        depth: Depth | None = None,
    ) -> list[FacePose]:
        """Faces of one image, in order of decreasing score; earlier images have no influence.

        Args:
            image: (H, W, 3) uint8 RGB; any view of an array, writable or not.
            camera: The camera that took it.
            boxes_xyxy: (N, 4) px, boxes of upright faces, used instead of detection.
            depth: A `DepthImage` taken at the same time, or the pixels of one that is aligned to
                the image, (H, W) uint16 in mm or float in m. A function is called without
                arguments after the keypoints have been measured.

        Raises:
            ValueError: Shape or type of the image or depth is wrong, or differs from its camera.
            RuntimeError: The estimator was used in another process, before a fork.
        """
        self._check_process()
        image = _checked_image(image, camera)
        depth = _checked_depth(depth, camera)
        if boxes_xyxy is None:
            faces = self.detector.detect(image, camera)
        else:
            faces = Faces.of_boxes(boxes_xyxy)
        found = self._measured(image, camera, faces)
        keypoints, prior_of = self._each_once(found.keypoints, [''] * len(faces))
        solved = self._solve(keypoints, camera, prior_of, depth)
        return solved + self._coarse(found, keypoints, camera)

    def track(
        self,
        image: NDArray[np.uint8],
        camera: Camera,
        stamp_s: float,
        depth: Depth | None = None,
    ) -> list[FacePose]:
        """Faces of the next image of a stream, each with the id of its track.

        Tracked faces are measured where they are predicted. Without tracks the detector runs on
        the image itself. With tracks it runs in another thread between two images: before every
        `detect_every`-th image, and after an image in which a track has no measurement. The
        keypoints of new faces are measured between the next two, so these appear two images later.

        Args:
            image: (H, W, 3) uint8 RGB; any view of an array. It may change after the call.
            camera: The camera that took it.
            stamp_s: When the image was taken [s]. A step back in time removes all tracks.
            depth: As in `estimate`. The measured size of each person is kept in the track.

        Raises:
            ValueError: As in `estimate`, or stamp_s is infinite or NaN.
            RuntimeError: As in `estimate`.
        """
        self._check_process()
        image = _checked_image(image, camera)
        depth = _checked_depth(depth, camera)
        if not math.isfinite(stamp_s):
            raise ValueError(f'stamp_s must be a finite number of seconds, got {stamp_s}')
        if self.tracker.set_camera(camera):
            self.drop_pending_detection()  # its boxes are pixels of the previous camera
        self.tracker.advance(stamp_s)
        known = self.tracker.known_faces(_FOLLOW_S, FACE_MESH_INDEX)
        ahead = self._ahead.result(self.tracker, stamp_s - _FOLLOW_S, stamp_s)
        detected = ahead if isinstance(ahead, Faces) else None
        found = ahead if isinstance(ahead, _Found) else None
        is_kept = self._is_detection_due(2) if detected is None else len(detected) > len(known[0])
        # Made by the other thread while this one runs the network.
        copy = self._ahead.copy(image) if is_kept else None
        keypoints, prior_of = self._followed(image, camera, known, found)
        is_lost = len(keypoints) == 0
        if ahead is None and (is_lost or self._is_detection_due()):
            detected = self.detector.detect(image, camera)
        if detected is None:
            self.tracker.images_since_detection += 1
        else:
            self.tracker.images_since_detection = 0
            detected = _elsewhere(detected, keypoints)
            if is_lost:
                found, detected = self._measured(image, camera, detected), None
                keypoints, prior_of = self._each_once(found.keypoints, [''] * len(found.keypoints))
        solved = self._solve(keypoints, camera, prior_of, depth)
        if found is not None:
            solved += self._coarse(found, keypoints, camera)
        faces = self.tracker.update(solved, stamp_s)
        is_missing = len(faces) < len(self.tracker.ids)
        task: Callable[..., Faces | _Found] | None = None
        if detected is not None and len(detected):
            task = partial(self._measured, faces=detected)
        elif (is_missing or self._is_detection_due()) and self.tracker.ids:
            task = self.detector.detect
        if task:
            pixels = (copy or self._ahead.copy(image)).result()
            self._ahead.begin(partial(task, pixels, camera), self.tracker, stamp_s)
        return faces

    def _check_process(self) -> None:
        """Raise where the inference would wait for ever: its threads do not survive a fork."""
        process = os.getpid()
        self._process = self._process or process
        if process != self._process:
            raise RuntimeError(
                f'this estimator was used in process {self._process}, before the fork of this '
                "one: start processes with multiprocessing's 'spawn'"
            )

    def _detector(self) -> HeadDetector:
        uncertainty = packaged_uncertainty(self._weights.get('head_detector'))
        xyz_face, options = self.model.xyz_head, self.options.detector
        return HeadDetector(self._networks.detector, xyz_face, uncertainty, options)

    def _predictor(self) -> KeypointPredictor:
        max_crops = self.options.keypoints.max_crops
        return KeypointPredictor(self._networks.keypoints, self._calibration, max_crops)

    def _population(self) -> Shape:
        """The prior of an unknown person's shape, for the tracker."""
        prior = default_shape_prior(self.model, self.options.pose)
        return Shape(prior.mean[0], prior.covariance[0])

    def _measured(self, image: NDArray[np.uint8], camera: Camera, faces: Faces) -> _Found:
        """Measure the keypoints of detected faces."""
        crops = self.keypoints.first_crops(faces, camera)
        self.faces_without_rays += int(np.count_nonzero(~crops.valid))
        keypoints = self.keypoints.predict(image, faces, camera)
        is_present = keypoints.presence >= self.options.keypoints.min_presence
        boxes = faces.boxes_xyxy
        is_small = (boxes[:, 2:] - boxes[:, :2]).max(-1) < _KEYPOINTS_FROM_PX
        small = faces[~is_present & is_small & (faces.scores > SURE_SCORE)]
        return _Found(keypoints, keypoints.uv[is_present, FACE], small)

    def _followed(
        self,
        image: NDArray[np.uint8],
        camera: Camera,
        known: tuple[list[str], NDArray[np.float64]],
        found: _Found | None,
    ) -> tuple[Keypoints, list[str]]:
        """Keypoints of the tracked faces, and of those found in the last image; their ids."""
        prior_of, uv = known
        if found is not None and len(found.uv_new):
            uv = np.concatenate([uv, found.uv_new])
            prior_of = prior_of + [''] * len(found.uv_new)
        keypoints = self.keypoints.follow(image, uv, camera)
        return self._each_once(keypoints, prior_of)

    def _is_detection_due(self, ahead: int = 1) -> bool:
        """Whether so many images after those counted so far a detection is needed."""
        count = self.tracker.images_since_detection + ahead
        return count >= self.options.tracking.detect_every

    def _solve(
        self,
        keypoints: Keypoints,
        camera: Camera,
        prior_of: Sequence[str],
        depth: DepthImage | Callable[[], DepthImage | None] | None = None,
    ) -> list[FacePose]:
        """Fit the poses, with the shape prior of each track; failed fits are left out."""
        if len(keypoints) == 0:
            return []
        if callable(depth):
            depth = depth()
        shape_prior = ShapePrior(*self.tracker.shapes_of(prior_of))
        poses = fit_pose(
            keypoints,
            self._head_model,
            camera,
            self.options.pose,
            shape_prior=shape_prior,
            threads=self._threads,
            depth=depth,
            depth_options=self.options.depth,
        ).poses
        expected_size = None if depth is None else shape_prior.mean[:, 0]
        return face_poses(keypoints, poses, self.model, camera, prior_of, expected_size)

    def _coarse(self, found: _Found, known: Keypoints, camera: Camera) -> list[FacePose]:
        """Faces that are too small for keypoints, with the detector's poses."""
        if len(found.small) == 0:
            return []
        faces = _elsewhere(found.small, known)
        return coarse_poses(faces, self.model, camera, self._population())

    def _each_once(self, keypoints: Keypoints, prior_of: list[str]) -> tuple[Keypoints, list[str]]:
        """Faces with enough presence, each once: tracked ones first, then by presence; ids."""
        limits = self.options.keypoints
        order = _core.each_once(
            keypoints.uv,
            FACE.stop,
            keypoints.presence,
            prior_of,
            limits.min_presence,
            limits.max_duplicate_iou,
        )
        if len(order) == len(prior_of) and order == sorted(order):
            return keypoints, prior_of
        return keypoints[np.array(order, np.intp)], [prior_of[i] for i in order]


def _elsewhere(faces: Faces, known: Keypoints) -> Faces:
    """The faces whose box centre is outside the bounds of all known faces."""
    if len(faces) == 0 or len(known) == 0:
        return faces
    middle = 0.5 * (faces.boxes_xyxy[:, :2] + faces.boxes_xyxy[:, 2:])
    bounds = bounds_of_faces(known)
    within = (middle[:, None] > bounds[:, :2]) & (middle[:, None] < bounds[:, 2:])
    return faces[~within.all(-1).any(-1)]


def _checked_depth(
    depth: Depth | None, camera: Camera
) -> DepthImage | Callable[[], DepthImage | None] | None:
    """The depth image; an array is taken as aligned to the camera."""
    if depth is None or isinstance(depth, DepthImage) or callable(depth):
        return depth
    return DepthImage(depth, camera)


def _checked_image(image: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    """The image as contiguous pixels: compiled code and OpenCV take no negative strides."""
    pixels = np.asarray(image)
    if pixels.dtype.char != 'B' or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f'expected an (H, W, 3) uint8 RGB image, got {pixels.shape} {pixels.dtype}'
        )
    height, width = pixels.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise ValueError(
            f'the image is {width} x {height} but the camera is calibrated for '
            f'{camera.width} x {camera.height}'
        )
    return np.ascontiguousarray(pixels)
