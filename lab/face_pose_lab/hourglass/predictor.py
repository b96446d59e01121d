# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image + Faces -> the semantic keypoints of heads, with the hourglass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.hourglass.numbers import INPUT_PX, CropKeypoints, KeypointCalibration
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops, crops_around_boxes
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.predictor import crops_around_heads
from face_pose_ros.results import Faces, Keypoints

# A network, whichever engine runs it: the keypoints of crops of an image.
KeypointNetwork = Callable[[NDArray[np.uint8], Crops, Camera], CropKeypoints]
POINTS = len(semantic.NAMES)
# Side of the crop over that of the face keypoints' bounds, as rendered.
_MARGIN = 2.0


class SemanticPredictor:
    """The hourglass on upright crops, from all around the head.

    The first crop follows a box, every further one the keypoints of the
    one before.
    """

    def __init__(
        self,
        network: KeypointNetwork,
        calibration: KeypointCalibration,
        max_crops: int,
        size_px: int = INPUT_PX,
    ) -> None:
        """Take the network and how many crops to give it.

        Args:
            network: Of the semantic keypoints.
            calibration: What its covariances and confidences mean.
            max_crops: Crops per new face, 1 or more.
            size_px: Side of its crops.
        """
        self.network = network
        self.max_crops = max_crops
        self._calibration = calibration
        self._size_px = size_px

    def predict(
        self, image: NDArray[np.uint8], faces: Faces, camera: Camera, margin: float = _MARGIN
    ) -> Keypoints:
        """Measure the keypoints of proposed faces, in one batch per crop.

        Args:
            image: (H, W, 3) uint8 RGB.
            faces: N upright faces.
            camera: The image's camera.
            margin: Side of the first crop over that of the box.

        Returns:
            Keypoints of the N faces; presence 0 where the lens has no ray for a crop.
        """
        if len(faces) == 0:
            return Keypoints.unmeasured(0, POINTS)
        crops = crops_around_boxes(faces.boxes_xyxy, camera, self._size_px, margin)
        keypoints = self._measure(image, crops, camera)
        for _ in range(self.max_crops - 1):
            keypoints = self.follow(image, keypoints.uv[:, semantic.IS_FACE], camera)
        return keypoints

    def follow(
        self, image: NDArray[np.uint8], uv_face: NDArray[np.float64], camera: Camera
    ) -> Keypoints:
        """Measure keypoints where faces were a moment ago.

        Args:
            image: (H, W, 3) uint8 RGB.
            uv_face: (N, 56, 2) px, the keypoints of the face, in the order of FACE_MESH_INDEX.
            camera: The image's camera.
        """
        if len(uv_face) == 0:
            return Keypoints.unmeasured(0, POINTS)
        crops = crops_around_heads(uv_face, camera, self._size_px, _MARGIN)
        return self._measure(image, crops, camera)

    def _measure(self, image: NDArray[np.uint8], crops: Crops, camera: Camera) -> Keypoints:
        uv_crop, cov_crop, confidence = self.network(image, crops, camera)
        uv, seen = crops.to_image(uv_crop, camera)
        J = crops.jacobian(camera)[:, None]
        cov_uv = J @ self._calibration.covariance(cov_crop) @ J.swapaxes(-1, -2)
        cov_uv[~seen] = np.diag([np.inf, np.inf])
        presence = self._calibration.presence(confidence)
        return Keypoints(uv, cov_uv, np.where(crops.valid, presence, 0.0))
