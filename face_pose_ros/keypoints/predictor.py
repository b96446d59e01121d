# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image and Faces -> Keypoints in image pixels, measured by the keypoint network."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.engines.network import Network
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import (
    Crops,
    Upright,
    crops_around_boxes,
    crops_around_keypoints,
)
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.network_output import (
    INPUT_PX,
    KEYPOINTS,
    MARGIN,
    Calibration,
    read_keypoints,
)
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.results import Faces, Keypoints, bounds_xyxy

Array = NDArray[np.float64]
Image = NDArray[np.uint8]  # (H, W, 3) RGB

FACE_MESH_INDEX = semantic.FACE_MESH_INDEX[semantic.IS_FACE]
FACE = slice(len(FACE_MESH_INDEX))  # the keypoints of the face, which are the first
_BOX_MARGIN = 1.6  # side of the first crop over the side of a given box
# A crop is far off if it differs by more than this from the crop around the keypoints found in it.
# Training crops vary by about as much; beyond it keypoints are biased towards the crop.
_FAR_OFF = _core.CropLimits(scale=math.log(1.1), shift=0.05, roll=math.radians(10))
_HOPELESS = 1e-3  # presence in a further crop of a new face below which it gets no more of them
# Other detections beside a found face, less than so many of its sides from its centre, are mostly
# its hair, ears and collar: each gets one crop, and more only if it is as clear as this in it.
_BESIDE, _CLEAR = 1.5, 0.1
_MOST = 4  # crops of a tracked face; cheaper than a new detection
# A tracked face counts as occluded if the median standard deviation of its keypoints exceeds this
# share of its size. The box that covers faces of the golden scenes makes it 0.11 and more.
_COVERED = 0.08
SURE_PRESENCE = 0.8  # from which a detection is a face: animals come close
LOW_SCORE, _HIGH_SCORE = 0.6, 0.9  # of the detector; below the first no other roll is tried


class Limits(NamedTuple):
    """Limits of the same share for new faces: false detections have low scores and large shares.

    Between the two scores the limit grows linearly.
    """

    low: float  # up to a score of 0.6
    high: float  # from a score of 0.9 on

    def of(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) limits of detections with scores (N,)."""
        return np.interp(scores, (LOW_SCORE, _HIGH_SCORE), (self.low, self.high))


# The lab's `head_detector.confirmation` compares limits.
PACKAGED_LIMITS = Limits(0.035, 0.1)


def _indices(*names: str) -> NDArray[np.int64]:
    """Indices among the face keypoints, which are the first of all keypoints."""
    return np.array([semantic.NAMES.index(name) for name in names])


_UPRIGHT = Upright(
    eye_right=_indices('eye_outer_right', 'eye_inner_right'),
    eye_left=_indices('eye_outer_left', 'eye_inner_left'),
    forehead=_indices('forehead', 'glabella'),
    chin=_indices('chin', 'menton'),
)


class KeypointPredictor:
    """Runs the keypoint network on upright crops.

    The first crop of a new face follows the detector's pose, or a given box; that of a tracked
    face follows its predicted keypoints. Each further crop follows the keypoints found in the last
    one: of a new face up to `max_crops`, of a tracked face only while the last was far off.
    Detections that no crop confirms are tried at other rolls if the score makes them likely, but
    not beside a confirmed face.
    """

    def __init__(self, network: Network, calibration: Calibration, max_crops: int) -> None:
        """Make a predictor.

        Args:
            network: (N, 3, 128, 128) RGB in [0, 1] -> one output, see `network_output`.
            calibration: Calibration of the network.
            max_crops: Crops of a new face, 1 or more.
        """
        self.network = network
        self.max_crops = max_crops
        self._calibration = calibration
        self._xyz_face = semantic_head().xyz_head[FACE]

    def predict(
        self, image: Image, faces: Faces, camera: Camera, box_margin: float = _BOX_MARGIN
    ) -> Keypoints:
        """Measure the keypoints of new faces, in one batch per crop.

        Args:
            image: (H, W, 3) uint8 RGB.
            faces: N faces.
            camera: The image's camera.
            box_margin: Side of the first crop over the side of a given box.

        Returns:
            Semantic keypoints of the N faces; presence 0 where the lens has no ray for a crop, and
            where the keypoints are too uncertain for a face.
        """
        if len(faces) == 0:
            return Keypoints.unmeasured(0, KEYPOINTS)
        limit = PACKAGED_LIMITS.of(faces.scores)
        crops = self.first_crops(faces, camera, box_margin)
        keypoints = self._measure(image, crops, camera)
        if faces.coarse is None:
            return self._refined(image, keypoints, np.arange(len(faces)), camera, limit)
        is_clear = keypoints.presence >= _CLEAR
        clear = np.flatnonzero(is_clear)
        keypoints = self._refined(image, keypoints, clear, camera, limit)
        found = clear[keypoints.presence[clear] > 0]
        is_alone = ~_are_beside(faces, keypoints[found])
        keypoints.presence[~is_clear & ~is_alone] = 0
        unclear = np.flatnonzero(~is_clear & is_alone)
        keypoints = self._refined(image, keypoints, unclear, camera, limit)
        # The detector finds rolled heads, but may be wrong about their roll.
        is_likely = is_alone & (faces.scores >= LOW_SCORE)
        lost = np.flatnonzero(is_likely & (keypoints.presence == 0))
        if len(lost):
            quarters = 0.5 * math.pi * np.arange(1, 4)
            rolled = crops[np.repeat(lost, 3)].rolled(np.tile(quarters, len(lost)))
            tried = self._measure(image, rolled, camera)
            best = 3 * np.arange(len(lost)) + tried.presence.reshape(-1, 3).argmax(1)
            keypoints = keypoints.replaced(lost, tried[best])
            keypoints = self._refined(image, keypoints, lost, camera, limit)
        return keypoints

    def first_crops(self, faces: Faces, camera: Camera, box_margin: float = _BOX_MARGIN) -> Crops:
        """Crops around N new faces."""
        if faces.coarse is None:
            return crops_around_boxes(faces.boxes_xyxy, camera, INPUT_PX, box_margin)
        uv = camera.project(rotations.apply(faces.coarse.T_cam_head, self._xyz_face)).uv
        return crops_around_heads(uv, camera)

    def follow(self, image: Image, uv_face: Array, camera: Camera) -> Keypoints:
        """Measure the keypoints of tracked faces.

        Args:
            image: (H, W, 3) uint8 RGB.
            uv_face: (N, 56, 2) px, predicted keypoints of the face, ordered as FACE_MESH_INDEX.
            camera: The image's camera.

        Returns:
            As in `predict`; presence is also 0 if the last of _MOST crops was far off, and if the
            face is occluded.
        """
        if len(uv_face) == 0:
            return Keypoints.unmeasured(0, KEYPOINTS)
        crops = crops_around_heads(uv_face, camera)
        keypoints, far_off = self._converged(image, crops, camera, _MOST)
        limit = [_COVERED] * len(uv_face)
        _core.reject(keypoints.uv, keypoints.cov_uv, FACE.stop, far_off, limit, keypoints.presence)
        return keypoints

    def _refined(
        self,
        image: Image,
        keypoints: Keypoints,
        rows: NDArray[np.intp],
        camera: Camera,
        limit: NDArray[np.float64],
    ) -> Keypoints:
        """Keypoints of new faces in all further crops; presence 0 where they are too uncertain.

        Args:
            image: (H, W, 3) uint8 RGB.
            keypoints: Of N faces in their first crops.
            rows: (M,) the faces that get further crops; the others stay as they are.
            camera: The image's camera.
            limit: (N,) of the median standard deviation of keypoints over the size of the face.
        """
        if len(rows) == 0:
            return keypoints
        least = 0.0  # many faces are seen in their second crop first; 0: the lens has no ray
        for _ in range(self.max_crops - 1):
            hopeful = rows[keypoints.presence[rows] > least]
            if len(hopeful):
                crops = crops_around_heads(keypoints.uv[hopeful, FACE], camera)
                keypoints = keypoints.replaced(hopeful, self._measure(image, crops, camera))
            least = _HOPELESS
        # The crops of a new face may end before they have converged.
        refined = keypoints[rows]
        unsure = refined.presence < SURE_PRESENCE
        _core.reject(refined.uv, refined.cov_uv, FACE.stop, unsure, limit[rows], refined.presence)
        return keypoints.replaced(rows, refined)

    def _measure(self, image: Image, crops: Crops, camera: Camera) -> Keypoints:
        (numbers,) = self.network.on_crops(image, crops, camera)
        return read_keypoints(numbers, crops, camera, self._calibration)

    def _converged(
        self, image: Image, crops: Crops, camera: Camera, max_crops: int
    ) -> tuple[Keypoints, NDArray[np.bool_]]:
        """Keypoints after at most `max_crops` crops per face; whether the last was far off."""
        keypoints = self._measure(image, crops, camera)
        far_off = are_far_off(crops, keypoints.uv, camera)
        if max_crops > 1 and True in far_off.tolist():  # `any` is much slower for few faces
            again = np.flatnonzero(far_off)
            wanted = crops_around_heads(keypoints.uv[again, FACE], camera)
            closer, far_off[again] = self._converged(image, wanted, camera, max_crops - 1)
            keypoints = keypoints.replaced(again, closer)
        return keypoints, far_off


def _are_beside(faces: Faces, found: Keypoints) -> NDArray[np.bool_]:
    """(N,) whether detections are beside one of M found faces, or show it."""
    middle = 0.5 * (faces.boxes_xyxy[:, :2] + faces.boxes_xyxy[:, 2:])
    bounds = bounds_xyxy(found.uv[:, FACE])
    side = (bounds[:, 2:] - bounds[:, :2]).max(1)
    away = np.linalg.norm(middle[:, None] - 0.5 * (bounds[:, :2] + bounds[:, 2:]), axis=-1)
    return (away < _BESIDE * side).any(1)


def crops_around_heads(
    uv_face: Array, camera: Camera, size_px: int = INPUT_PX, margin: float = MARGIN
) -> Crops:
    """`crops_around_keypoints` of the keypoints (N, 56, 2) px of faces."""
    return crops_around_keypoints(uv_face, _UPRIGHT, camera, size_px, margin)


def are_far_off(crops: Crops, uv: Array, camera: Camera) -> NDArray[np.bool_]:
    """(N,) whether crops differ too much from those around the keypoints (N, K, 2) px in them."""
    return _core.are_far_off(
        crops.R_cam_crop,
        crops.focal_px,
        uv,
        FACE.stop,
        _UPRIGHT,
        camera.lens,
        crops.size_px,
        MARGIN,
        _FAR_OFF,
    )
