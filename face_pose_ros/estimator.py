"""FacePoseEstimator: image -> faces -> keypoints -> poses, without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from face_pose_ros.engines.networks import Networks, load_networks, load_single_shot
from face_pose_ros.face_pose import (
    FacePose,
    bounds_of_readings,
    coarse_poses,
    face_poses,
)
from face_pose_ros.faces.ahead import DetectionAhead
from face_pose_ros.faces.detector import DetectorOptions, FaceDetector
from face_pose_ros.faces.head_uncertainty import packaged_uncertainty
from face_pose_ros.faces.nms import box_overlaps, suppress
from face_pose_ros.faces.region_pose import REGION_PX
from face_pose_ros.faces.single_shot_detector import SingleShotDetector
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.hourglass import packaged_calibration
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.keypoints.reader import KEYPOINT_NETWORKS, KeypointReader
from face_pose_ros.keypoints.semantic_predictor import packaged_predictor
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fusion import fit_readings, share_of_head, turn_deg
from face_pose_ros.pose.refine import PoseOptions, ShapePrior, default_shape_prior
from face_pose_ros.tracking import linalg
from face_pose_ros.tracking.shape_memory import Shape
from face_pose_ros.tracking.tracker import Tracker, TrackerOptions
from face_pose_ros.types import Faces, Keypoints, Readings


@dataclass(frozen=True)
class EstimatorOptions:
    """Options of `FacePoseEstimator`."""

    detector: DetectorOptions = field(default_factory=DetectorOptions)
    pose: PoseOptions = field(default_factory=PoseOptions)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    keypoints: str = 'auto'  # one of KEYPOINT_NETWORKS
    min_presence: float = 0.5  # faces below this probability are dropped
    max_duplicate_iou: float = 0.5  # of keypoint bounds; above it two faces are one
    looks: int = 2  # most crops per new face, each centred by the one before
    jitters: int = 0  # crops averaged for each face after that; 0: the last look as it is
    detect_every: int = 5  # images; while all known faces are in view, `track` detects this often

    def __post_init__(self) -> None:
        if self.keypoints not in KEYPOINT_NETWORKS:
            raise ValueError(
                f"keypoints '{self.keypoints}' is not one of {', '.join(KEYPOINT_NETWORKS)}"
            )
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

# In a smaller face a keypoint network may see none, where the detector does.
_KEYPOINTS_FROM_PX = 40.0


class FacePoseEstimator:
    """6-DoF head poses of every face in a picture of a calibrated camera.

    The networks and the sampling of pictures run on the device. All else is arithmetic on a few
    hundred points, which compiled code on the CPU has done before a GPU has begun.
    """

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
            ValueError: There is no such device, or the detector asked for is not in `networks`.
            WeightsError: A weights file is missing, truncated or altered.
        """
        self.options = options or EstimatorOptions()
        if networks is None:
            networks = load_networks(device)
            if self.options.detector.network == 'single_shot':
                networks = networks._replace(single_shot=load_single_shot(networks.device))
        self.device = networks.device
        self._networks = networks
        self.detector = self._detector()
        self._calibration = packaged_calibration()
        self.keypoints = self._reader()
        self._ahead = DetectionAhead(self.device)
        self.model = deformable_face()
        self._head_model = semantic_head()
        self.tracker = Tracker(self.options.tracker, self._anybody(), self.model.is_expression)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run all stages once: a new installation compiles for a minute or two."""
        side = 256
        K = [side, 0, 0.5 * (side - 1), 0, side, 0.5 * (side - 1), 0, 0, 1]
        camera = Camera.from_K(K, side, side)
        image = np.zeros((side, side, 3), np.uint8)
        self._detect(self._checked_image(image, camera), camera)
        if isinstance(self.detector, SingleShotDetector):  # it proposes nothing in that picture
            regions = torch.zeros(1, 3, REGION_PX, REGION_PX, device=self.device)
            self.detector.region_network(regions)
        self.estimate(image, camera, [[64, 64, 192, 192]])
        # A black picture has no face to fit; the mean face half a metre ahead is one.
        camera = camera.to('cpu', torch.float64)
        R = self.model.xyz_head.new_tensor([[0, 1, 0], [0, 0, -1], [-1, 0, 0]])
        uv = camera.project(self.model.xyz_head @ R.T + R.new_tensor([0, 0, 0.5])).uv[None]
        cov_uv = torch.eye(2).to(uv).expand(*uv.shape, 2)
        mesh = Keypoints(uv, cov_uv, uv.new_ones(1))
        readings = replace(self.keypoints.nothing(1, camera), mesh=mesh)
        tracker = Tracker(self.options.tracker, self._anybody(), self.model.is_expression)
        faces = self._solve(readings, camera, [''])
        for stamp_s in (0.0, 0.1):
            tracker.update(faces, stamp_s)

    def configure(self, options: EstimatorOptions) -> None:
        """Go on with other options; people keep their ids."""
        self.settle()
        self.options = options
        self.detector = self._detector()
        self.keypoints = self._reader()
        self.tracker.configure(options.tracker, self._anybody())

    def _detector(self) -> FaceDetector | SingleShotDetector:
        options, networks = self.options.detector, self._networks
        if options.network == 'blazeface':
            return FaceDetector(networks.detector, options)
        if networks.single_shot is None:
            raise ValueError('the networks were loaded without the single-shot detector')
        xyz_head = deformable_face().xyz_head
        return SingleShotDetector(*networks.single_shot, xyz_head, packaged_uncertainty(), options)

    def _reader(self) -> KeypointReader:
        options, networks = self.options, self._networks
        mesh, head = None, None
        if options.keypoints != 'hourglass':
            mesh = KeypointPredictor(
                networks.keypoints, options.looks, options.jitters, self.device
            )
        if options.keypoints != 'face_mesh':
            head = packaged_predictor(networks.hourglass, options.looks, self.device)
        return KeypointReader(mesh, head)

    def settle(self) -> None:
        """Drop the detection begun for the next image: `tracker` is all that is remembered."""
        self._ahead.forget()

    def _anybody(self) -> Shape:
        """The prior of a shape, for the tracker."""
        prior = default_shape_prior(self.model, self.options.pose)
        return Shape(prior.mean[0].numpy(), prior.information[0].inverse().numpy())

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
        camera = camera.to('cpu', torch.float64)
        boxes = boxes_xyxy
        faces = self._detect(pixels, camera) if boxes is None else self._given(boxes)
        found = self.keypoints.predict(pixels, faces, camera)
        readings, prior_of = self._each_once(found, [''] * len(found))
        coarse = self._coarse(faces, found, camera)
        return self._solve(readings, camera, prior_of) + coarse

    @torch.inference_mode()
    def track(
        self, image: NDArray[np.uint8] | Tensor, camera: Camera, stamp_s: float
    ) -> list[FacePose]:
        """Faces of the next image of a stream, with ids that stay with each person.

        Faces of a moment ago are looked at where they were. The detector runs when there are none;
        and after the image before every `detect_every`-th one and after each in which somebody is
        missing, while the next image is awaited. So new people beside others are seen one image
        later, and an image is not to be changed before the next one is given.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: The camera that took it.
            stamp_s: When the image was taken [s]. Going back in time forgets all faces.

        Raises:
            ValueError: As in `estimate`.
        """
        pixels = self._checked_image(image, camera)
        camera = camera.to('cpu', torch.float64)
        if self.tracker.look_through(camera):
            self.settle()  # what was detected ahead lies in the other camera's pixels
        self.tracker.advance(stamp_s)
        known = self.tracker.known_faces(_FOLLOW_S)
        share = share_of_head(turn_deg(self._tensor(known.T_cam_head)))
        uv = self._tensor(known.keypoints_uv)
        readings = self.keypoints.follow(pixels, uv, share, camera)
        readings, prior_of = self._each_once(readings, known.ids)
        proposed = self._proposed(pixels, camera, stamp_s, is_urgent=len(readings) == 0)
        unknown, coarse = self._unknown(proposed, readings), []
        if len(unknown):
            found = self.keypoints.predict(pixels, unknown, camera)
            priors = [*prior_of, *[''] * len(found)]
            readings, prior_of = self._each_once(readings.join(found), priors)
            coarse = self._coarse(unknown, found, camera)
        solved = self._solve(readings, camera, prior_of)
        faces = self.tracker.update(solved + coarse, stamp_s)
        self._look_ahead(pixels, camera, stamp_s, missing=len(faces) < len(self.tracker.ids))
        return faces

    def _proposed(self, pixels: Tensor, camera: Camera, stamp_s: float, is_urgent: bool) -> Faces:
        """Faces of the image before, where they were detected in time, or of this one.

        None at all, if it is no image's turn.
        """
        count = self.tracker.images_since_detection + 1
        faces = self._ahead.faces(self.tracker, stamp_s - _FOLLOW_S, stamp_s)
        if faces is None and (is_urgent or count >= self.options.detect_every):
            faces = self._detect(pixels, camera)
        self.tracker.images_since_detection = count if faces is None else 0
        return self._given([]) if faces is None else faces

    def _look_ahead(self, pixels: Tensor, camera: Camera, stamp_s: float, missing: bool) -> None:
        """Begin to detect if it is the next image's turn, and somebody is seen meanwhile."""
        its_turn = self.tracker.images_since_detection + 1 >= self.options.detect_every
        if self.tracker.ids and (missing or its_turn):
            self._ahead.begin(lambda: self._detect(pixels, camera), self.tracker, stamp_s)

    def _solve(
        self, readings: Readings, camera: Camera, prior_of: Sequence[str]
    ) -> list[FacePose]:
        """The faces whose pose can be found, each with the shape known of the named person."""
        if len(readings) == 0:
            return []
        priors = [self.tracker.shape_of(person) for person in prior_of]
        shape_prior = ShapePrior(
            self._tensor([prior.mean for prior in priors]),
            self._tensor(linalg.inverse(np.array([prior.covariance for prior in priors]))),
        )
        fitted = fit_readings(
            readings,
            self.model,
            self._head_model,
            camera,
            self.options.pose,
            self._calibration.independent_keypoints,
            self.options.min_presence,
            shape_prior,
        )
        return face_poses(readings, fitted, self.model, camera, prior_of)

    def _coarse(self, faces: Faces, found: Readings, camera: Camera) -> list[FacePose]:
        """The faces that are too small for keypoints, as the detector poses them."""
        if faces.coarse is None:
            return []
        side = (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).amax(-1)
        small = (side < _KEYPOINTS_FROM_PX) & (found.presence < self.options.min_presence)
        return coarse_poses(faces[small], self.model, camera, self._anybody())

    def _tensor(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values))

    def _detect(self, pixels: Tensor, camera: Camera) -> Faces:
        pixels = pixels.to(self.device)
        if isinstance(self.detector, FaceDetector):
            return self.detector.detect(pixels)
        return self.detector.detect(pixels, camera)

    def _checked_image(self, image: NDArray[np.uint8] | Tensor, camera: Camera) -> Tensor:
        pixels = torch.as_tensor(image)
        if self.device.type == 'cpu':
            pixels = pixels.cpu()  # else the device gets what it needs of it
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
        boxes = torch.as_tensor(np.asarray(boxes_xyxy, dtype=np.float32))
        boxes = boxes.reshape(-1, 4)
        if not (boxes.isfinite().all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise ValueError('boxes_xyxy must be finite with x_min < x_max and y_min < y_max')
        anchors_uv = boxes.new_full((len(boxes), 6, 2), torch.nan)
        return Faces(boxes, boxes.new_ones(len(boxes)), anchors_uv)

    def _unknown(self, faces: Faces, readings: Readings) -> Faces:
        """The proposed faces whose middle lies within no face that is measured already."""
        if len(faces) == 0 or len(readings) == 0:
            return faces
        middle = 0.5 * (faces.boxes_xyxy[:, :2] + faces.boxes_xyxy[:, 2:])
        bounds = bounds_of_readings(readings).to(middle)
        within = (middle[:, None] > bounds[:, :2]) & (middle[:, None] < bounds[:, 2:])
        return faces[~within.all(-1).any(-1)]

    def _each_once(
        self, readings: Readings, prior_of: Sequence[str]
    ) -> tuple[Readings, list[str]]:
        """Real faces only, each once, most certain first, and the ids that belong to them."""
        presence = readings.presence
        order = presence.argsort(descending=True, stable=True)
        order = order[presence[order] >= self.options.min_presence]
        if len(order) > 1:
            iou, _ = box_overlaps(bounds_of_readings(readings[order]))
            order = order[suppress(iou > self.options.max_duplicate_iou)]
        return readings[order], [prior_of[i] for i in order.tolist()]
