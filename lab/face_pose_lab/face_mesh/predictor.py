# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image + Faces -> Face Mesh's points in full-image pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.face_mesh.points import CROP_SIZE_PX, mirror_partners
from face_pose_lab.face_mesh.uncertainty import keypoint_uncertainty
from face_pose_lab.jittered import jittered
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import (
    Crops,
    Upright,
    crops_around_boxes,
    crops_around_keypoints,
)
from face_pose_ros.keypoints.face_mesh import EYELIDS, POINTS, SURFACE_POINTS
from face_pose_ros.options import PoseOptions
from face_pose_ros.results import Faces, Keypoints

Array = NDArray[np.float64]
Image = NDArray[np.uint8]  # (H, W, 3) RGB

# Side of the crop over the side of the face's box, as the network was trained.
_MARGIN = 1.5
# Mean move of the keypoints, of the crop's side, below which another crop gains nothing.
_SETTLED = 0.01

# Keypoints that keep the crop upright: rings of both eyes, and the ends of the midline.
_UPRIGHT = Upright(*map(np.array, (*EYELIDS, (10, 151), (152, 175))))


# Of fits to its points: the network does not say which of them it sees.
FIT = PoseOptions(visibility=True, independent_keypoints=6.0)

# A network, whichever engine runs it: its outputs for crops of an image.
CropNetwork = Callable[[Image, Crops, Camera], tuple[NDArray[np.float32], ...]]


class FaceMeshPredictor:
    """Face Mesh V2 on upright crops.

    The first crop follows the detector's box, whose scale and centre are rough; a further one
    follows the keypoints of the one before, and shows the network what it was trained on. A face
    that is where it was in the image before needs one crop only. The mean over several jittered
    crops is more precise than the last one, and their spread tells of its error.
    """

    def __init__(self, network: CropNetwork, max_crops: int) -> None:
        """Take the network and how many crops to give it.

        Args:
            network: Face Mesh: outputs uv (N, 478, 2) px of the crop, z, presence (N,).
            max_crops: Most crops of a new face, 1 or more.
        """
        self.network = network
        self.max_crops = max_crops
        self._uncertainty = keypoint_uncertainty()
        self._mirror_partners = mirror_partners()

    def predict(self, image: Image, faces: Faces, camera: Camera) -> Keypoints:
        """Measure the keypoints of proposed faces, in one batch per crop.

        Args:
            image: (H, W, 3) uint8 RGB.
            faces: N upright faces.
            camera: The image's camera.

        Returns:
            Keypoints of the N faces; presence 0 where the lens has no ray for a crop.
        """
        if len(faces) == 0:
            return Keypoints.unmeasured(0, POINTS)
        crops = crops_around_boxes(faces.boxes_xyxy, camera, CROP_SIZE_PX, _MARGIN)
        keypoints, _ = self._measure(image, crops, camera)
        if self.max_crops > 1:
            keypoints = self._follow(image, keypoints.uv, camera, self.max_crops - 1)
        return keypoints

    def _follow(self, image: Image, uv: Array, camera: Camera, max_crops: int) -> Keypoints:
        """Crop again until each face lies where expected, at most `max_crops` times."""
        keypoints, side_px = self._measure(image, crops_around_face(uv, camera), camera)
        moved = np.linalg.norm(keypoints.uv - uv, axis=-1).mean(-1) / side_px
        again = np.flatnonzero(moved >= _SETTLED)
        if max_crops > 1 and len(again):
            closer = self._follow(image, keypoints.uv[again], camera, max_crops - 1)
            keypoints = keypoints.replaced(again, closer)
        return keypoints

    def average(
        self, image: Image, keypoints: Keypoints, camera: Camera, jitters: int
    ) -> tuple[Keypoints, Array]:
        """Mean of the keypoints in jittered crops, weighted by their presences.

        Args:
            image: (H, W, 3) uint8 RGB.
            keypoints: Of N faces, in one crop.
            camera: As in `predict`.
            jitters: J, crops per face, 1 or more.

        Returns:
            The keypoints, with the second highest presence of all crops; and the spread (N,)
            px^2 of the crop: how far the crops are from their mean, the variance of a coordinate
            averaged over the keypoints, for those of a difficult face err together.
        """
        around = crops_around_face(keypoints.uv, camera)
        crops, is_mirrored = jittered(around, jitters)
        measured, _ = self._measure(image, crops, camera)
        uv = measured.uv.reshape(-1, jitters, POINTS, 2)
        uv = np.where(is_mirrored[:, None, None], uv[:, :, self._mirror_partners], uv)
        presence = measured.presence.reshape(-1, jitters)
        # Crops without a face count too where no other has one: the mean must exist.
        weight = (presence + 1e-3)[..., None, None]
        mean = (weight * uv).sum(1) / weight.sum(1)
        J = around.jacobian(camera)[:, None]
        residual = (uv - mean[:, None])[:, :, :SURFACE_POINTS]
        off = np.linalg.solve(J, residual.swapaxes(-1, -2))
        spread = (off**2).mean((1, 2, 3))
        cov_uv = J @ self._uncertainty.of_average(spread) @ J.swapaxes(-1, -2)
        unseen = np.isinf(keypoints.cov_uv).any((-1, -2))
        presences = np.concatenate([keypoints.presence[:, None], presence], 1)
        return Keypoints(
            uv=mean,
            cov_uv=np.where(unseen[..., None, None], keypoints.cov_uv, cov_uv),
            presence=np.sort(presences, 1)[:, -2],
        ), spread

    def _measure(self, image: Image, crops: Crops, camera: Camera) -> tuple[Keypoints, Array]:
        """Keypoints in the image, and the side (N,) px that each crop has there."""
        uv_crop, _, presence = self.network(image, crops, camera)
        uv, seen = crops.to_image(uv_crop, camera)
        J = crops.jacobian(camera)
        factor = self._uncertainty.factor_of_crop(uv_crop)[:, None, None, None]
        cov_uv = factor * (J[:, None] @ self._uncertainty.cov_crop @ J[:, None].swapaxes(-1, -2))
        cov_uv[~seen] = np.diag([np.inf, np.inf])
        area = np.abs(J[:, 0, 0] * J[:, 1, 1] - J[:, 0, 1] * J[:, 1, 0])
        certain = np.where(crops.valid, presence.astype(np.float64), 0.0)
        # Of a crop that is not valid: any but zero.
        side_px = CROP_SIZE_PX * np.sqrt(np.where(crops.valid, area, 1.0))
        return Keypoints(uv, cov_uv, certain), side_px


def crops_around_face(uv: Array, camera: Camera) -> Crops:
    """The crops that show N faces to the network, from their keypoints (N, 478, 2) px."""
    return crops_around_keypoints(uv[:, :SURFACE_POINTS], _UPRIGHT, camera, CROP_SIZE_PX, _MARGIN)
