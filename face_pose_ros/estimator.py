"""FacePoseEstimator: image -> faces -> keypoints -> poses, without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from face_pose_ros.engines.networks import Networks, load_networks
from face_pose_ros.faces.ahead import DetectionAhead
from face_pose_ros.faces.detector import DetectorOptions, FaceDetector
from face_pose_ros.faces.nms import box_overlaps, suppress
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.pose.refine import (
    PoseOptions,
    ShapePrior,
    default_shape_prior,
    fit_pose,
)
from face_pose_ros.tracking import linalg
from face_pose_ros.tracking.shape_memory import Shape
from face_pose_ros.tracking.tracker import Tracker, TrackerOptions
from face_pose_ros.types import Faces, HeadPoses, Keypoints


@dataclass(frozen=True)
class FacePose:
    """One face. Head frame: origin at the sellion, x out of the face, y to its left, z up."""

    T_cam_head: NDArray[np.float64]  # (4, 4), camera optical frame, m
    covariance: NDArray[np.float64]  # (6, 6): x, y, z [m], rotation about the camera's x, y, z
    keypoints_uv: NDArray[np.float64]  # (478, 2) px
    keypoints_sigma_px: NDArray[np.float64]  # (478,)
    box_xyxy: NDArray[np.float64]  # (4,) px, bounds of the keypoints
    score: float  # in [0, 1], how sure the keypoint network is that this is a face
    shape: NDArray[np.float64]  # (C,) coefficients of the face model, in standard deviations
    shape_covariance: NDArray[np.float64]  # (C, C)
    # Of the fit to this image alone, before `track` remembers and filters: covariance =
    # covariance_given_shape + pose_of_shape @ shape_covariance @ pose_of_shape.T.
    covariance_given_shape: NDArray[np.float64]  # (6, 6)
    pose_of_shape: NDArray[np.float64]  # (6, C)
    shape_prior_of: str  # id of the person whose known shape the fit began with; empty: anybody
    id: str  # stays with a person in `track`; empty in `estimate`


@dataclass(frozen=True)
class EstimatorOptions:
    """Options of `FacePoseEstimator`."""

    detector: DetectorOptions = field(default_factory=DetectorOptions)
    pose: PoseOptions = field(default_factory=PoseOptions)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    min_presence: float = 0.5  # faces below this probability are dropped
    max_duplicate_iou: float = 0.5  # of keypoint bounds; above it two faces are one
    looks: int = 2  # most crops per new face, each centred by the one before
    jitters: int = 0  # crops averaged for each face after that; 0: the last look as it is
    detect_every: int = 5  # images; while all known faces are in view, `track` detects this often

    def __post_init__(self) -> None:
        for name in ('min_presence', 'max_duplicate_iou'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} must be in [0, 1], got {getattr(self, name)}')
        for name in ('looks', 'detect_every'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.jitters < 0:
            raise ValueError(f'jitters must not be negative, got {self.jitters}')


# A face seen longer ago than this may be anywhere: it is detected, not followed. At 5 Hz and more
# every face is followed.
_FOLLOW_S = 0.21


class FacePoseEstimator:
    """6-DoF head poses of every face in a picture of a calibrated camera."""

    def __init__(
        self,
        device: str | torch.device = 'auto',
        options: EstimatorOptions | None = None,
        networks: Networks | None = None,
    ) -> None:
        """Load the packaged networks.

        Args:
            device: 'cpu', 'cuda', 'cuda:<index>', or 'auto': CUDA if there is one.
            options: See `EstimatorOptions`.
            networks: To share with other estimators, instead of those of `device`.

        Raises:
            ValueError: There is no such device.
            WeightsError: A weights file is missing, truncated or altered.
        """
        networks = networks or load_networks(device)
        self.device = networks.device
        self.options = options or EstimatorOptions()
        self.detector = FaceDetector(networks.detector, self.options.detector)
        self.keypoints = KeypointPredictor(
            networks.keypoints, self.options.looks, self.options.jitters
        )
        self._ahead = DetectionAhead()
        self.model = deformable_face(self.device)
        self.tracker = Tracker(self.options.tracker, self._anybody(), self.model.is_expression)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run all stages once: a new installation compiles for a minute or two."""
        side = 256
        K = [side, 0, 0.5 * (side - 1), 0, side, 0.5 * (side - 1), 0, 0, 1]
        camera = Camera.from_K(K, side, side)
        image = np.zeros((side, side, 3), np.uint8)
        self.detector.detect(self._checked_image(image, camera))
        self.estimate(image, camera, [[64, 64, 192, 192]])
        # A black picture has no face to fit; the mean face half a metre ahead is one.
        camera = camera.to(self.device, torch.float64)
        R = self.model.xyz_head.new_tensor([[0, 1, 0], [0, 0, -1], [-1, 0, 0]])
        uv = camera.project(self.model.xyz_head @ R.T + R.new_tensor([0, 0, 0.5])).uv[None]
        cov_uv = torch.eye(2).to(uv).expand(*uv.shape, 2)
        keypoints = Keypoints(uv, cov_uv, uv.new_ones(1))
        poses = fit_pose(keypoints, self.model, camera, self.options.pose).poses
        tracker = Tracker(self.options.tracker, self._anybody(), self.model.is_expression)
        for stamp_s in (0.0, 0.1):
            tracker.update(_to_numpy(keypoints, poses, ['']), stamp_s)

    def configure(self, options: EstimatorOptions) -> None:
        """Go on with other options; people keep their ids."""
        self.settle()
        self.options = options
        self.detector.options = options.detector
        self.keypoints.looks, self.keypoints.jitters = options.looks, options.jitters
        self.tracker.configure(options.tracker, self._anybody())

    def settle(self) -> None:
        """Drop the detection begun for the next image: `tracker` is all that is remembered."""
        self._ahead.forget()

    def _anybody(self) -> Shape:
        """The prior of a shape, for the tracker."""
        prior = default_shape_prior(self.model, self.options.pose)
        return Shape(prior.mean[0].cpu().numpy(), prior.information[0].inverse().cpu().numpy())

    @torch.inference_mode()
    def estimate(
        self,
        image: NDArray[np.uint8] | Tensor,
        camera: Camera,
        boxes_xyxy: ArrayLike | None = None,
    ) -> list[FacePose]:
        """Faces of one image, most certain first; no memory of earlier images.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: The camera that took it.
            boxes_xyxy: (N, 4) px, face boxes of upright faces to use instead of detection.

        Raises:
            ValueError: The image has another layout, or its size is not the camera's.
        """
        pixels = self._checked_image(image, camera)
        camera = camera.to(self.device, torch.float64)
        faces = self.detector.detect(pixels) if boxes_xyxy is None else self._given(boxes_xyxy)
        keypoints = self.keypoints.predict(pixels, faces, camera)
        keypoints, prior_of = self._each_once(keypoints, [''] * len(keypoints))
        return self._solve(keypoints, camera, prior_of)

    @torch.inference_mode()
    def track(
        self, image: NDArray[np.uint8] | Tensor, camera: Camera, stamp_s: float
    ) -> list[FacePose]:
        """Faces of the next image of a stream, with ids that stay with each person.

        Faces of a moment ago are looked at where they were. The detector runs when there are none;
        and on a CPU after the image before every `detect_every`-th one and after each in which
        somebody is missing, while the next image is awaited. So new people beside others are
        seen one image later, and an image is not to be changed before the next one is given.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: The camera that took it.
            stamp_s: When the image was taken [s]. Going back in time forgets all faces.

        Raises:
            ValueError: As in `estimate`.
        """
        pixels = self._checked_image(image, camera)
        camera = camera.to(self.device, torch.float64)
        self.tracker.advance(stamp_s)
        known = self.tracker.known_faces(_FOLLOW_S)
        keypoints = self.keypoints.follow(pixels, self._tensor(known.keypoints_uv), camera)
        keypoints, prior_of = self._each_once(keypoints, known.ids)
        proposed = self._proposed(pixels, stamp_s, is_urgent=len(keypoints) == 0)
        unknown = self._unknown(proposed, keypoints)
        if len(unknown):
            found = self.keypoints.predict(pixels, unknown, camera)
            priors = [*prior_of, *[''] * len(found)]
            keypoints, prior_of = self._each_once(keypoints.join(found), priors)
        faces = self.tracker.update(self._solve(keypoints, camera, prior_of), stamp_s)
        self._look_ahead(pixels, stamp_s, missing=len(faces) < len(self.tracker.ids))
        return faces

    def _proposed(self, pixels: Tensor, stamp_s: float, is_urgent: bool) -> Faces:
        """Faces of the image before, where they were detected in time, or of this one.

        None at all, if it is no image's turn.
        """
        count = self.tracker.images_since_detection + 1
        faces = self._ahead.faces(self.tracker, stamp_s - _FOLLOW_S, stamp_s)
        if faces is None and (is_urgent or count >= self.options.detect_every):
            faces = self.detector.detect(pixels)
        self.tracker.images_since_detection = count if faces is None else 0
        return self._given([]) if faces is None else faces

    def _look_ahead(self, pixels: Tensor, stamp_s: float, missing: bool) -> None:
        """Begin to detect if it is the next image's turn, and somebody is seen meanwhile."""
        its_turn = self.tracker.images_since_detection + 1 >= self.options.detect_every
        if self.device.type == 'cpu' and self.tracker.ids and (missing or its_turn):
            detect = self.detector.detect
            self._ahead.begin(lambda: detect(pixels), self.tracker, stamp_s)

    def _solve(
        self, keypoints: Keypoints, camera: Camera, prior_of: Sequence[str]
    ) -> list[FacePose]:
        """The faces whose pose can be found, each with the shape known of the named person."""
        if len(keypoints) == 0:
            return []
        priors = [self.tracker.shape_of(person) for person in prior_of]
        shape_prior = ShapePrior(
            self._tensor([prior.mean for prior in priors]),
            self._tensor(linalg.inverse(np.array([prior.covariance for prior in priors]))),
        )
        poses = fit_pose(
            keypoints, self.model, camera, self.options.pose, shape_prior=shape_prior
        ).poses
        return _to_numpy(keypoints, poses, prior_of)

    def _tensor(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values), device=self.device)

    def _checked_image(self, image: NDArray[np.uint8] | Tensor, camera: Camera) -> Tensor:
        pixels = torch.as_tensor(image, device=self.device)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f'expected an (H, W, 3) uint8 RGB image, got {tuple(pixels.shape)} {pixels.dtype}'
            )
        height, width = pixels.shape[:2]
        if (width, height) != (camera.width, camera.height):
            raise ValueError(
                f'the image is {width} x {height} but the camera is calibrated for '
                f'{camera.width} x {camera.height}'
            )
        return pixels

    def _given(self, boxes_xyxy: ArrayLike) -> Faces:
        boxes = torch.as_tensor(np.asarray(boxes_xyxy, dtype=np.float32), device=self.device)
        boxes = boxes.reshape(-1, 4)
        if not (boxes.isfinite().all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise ValueError('boxes_xyxy must be finite with x_min < x_max and y_min < y_max')
        anchors_uv = boxes.new_full((len(boxes), 6, 2), torch.nan)
        return Faces(boxes, boxes.new_ones(len(boxes)), anchors_uv)

    def _unknown(self, faces: Faces, keypoints: Keypoints) -> Faces:
        """The proposed faces whose middle lies within no face that is measured already."""
        if len(faces) == 0 or len(keypoints) == 0:
            return faces
        middle = 0.5 * (faces.boxes_xyxy[:, :2] + faces.boxes_xyxy[:, 2:])
        bounds = bounds_xyxy(keypoints.uv).to(middle)
        within = (middle[:, None] > bounds[:, :2]) & (middle[:, None] < bounds[:, 2:])
        return faces[~within.all(-1).any(-1)]

    def _each_once(
        self, keypoints: Keypoints, prior_of: Sequence[str]
    ) -> tuple[Keypoints, list[str]]:
        """Real faces only, each once, most certain first, and the ids that belong to them."""
        order = keypoints.presence.argsort(descending=True, stable=True)
        order = order[keypoints.presence[order] >= self.options.min_presence]
        if len(order) > 1:
            iou, _ = box_overlaps(bounds_xyxy(keypoints.uv[order]))
            order = order[suppress(iou > self.options.max_duplicate_iou)]
        return keypoints[order], [prior_of[i] for i in order.tolist()]


def bounds_xyxy(uv: Tensor) -> Tensor:
    """Bounding boxes (N, 4) px of keypoints (N, K, 2) px, K >= 1."""
    return torch.cat([uv.amin(1), uv.amax(1)], -1)


def _to_numpy(keypoints: Keypoints, poses: HeadPoses, prior_of: Sequence[str]) -> list[FacePose]:
    """The faces whose pose could be found, as plain numpy."""
    boxes = bounds_xyxy(keypoints.uv)
    columns: Sequence[Tensor] = (
        poses.T_cam_head,
        poses.covariance,
        keypoints.uv,
        keypoints.sigma_px,
        boxes,
        keypoints.presence,
        poses.shape,
        poses.shape_covariance,
        poses.covariance_given_shape,
        poses.pose_of_shape,
    )
    T, covariance, uv, sigma_px, box, presence, shape, shape_covariance, given_shape, of_shape = (
        c.cpu().double().numpy() for c in columns
    )
    return [
        FacePose(
            T_cam_head=T[i],
            covariance=covariance[i],
            keypoints_uv=uv[i],
            keypoints_sigma_px=sigma_px[i],
            box_xyxy=box[i],
            score=float(presence[i]),
            shape=shape[i],
            shape_covariance=shape_covariance[i],
            covariance_given_shape=given_shape[i],
            pose_of_shape=of_shape[i],
            shape_prior_of=prior_of[i],
            id='',
        )
        for i in range(len(T))
        if not poses.failed[i]
    ]
