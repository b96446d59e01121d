# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoint network on pictures: crops, looks, keypoints of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from face_pose_lab.keypoint_net.network import (
    CROP_PX,
    MARGIN,
    KeypointNetwork,
    fused,
    of_mirrored,
    read_head,
)
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops, crops_around_keypoints, render_crops
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.predictor import crops_around_faces
from face_pose_ros.keypoints.semantic_predictor import UPRIGHT
from face_pose_ros.results import Faces, Keypoints

Network = Callable[[Tensor], Tensor]  # (N, 3, 128, 128) in [0, 1] -> (N, 437)
Array = NDArray[np.float64]
Image = NDArray[np.uint8]  # (H, W, 3) RGB
_MIRROR = torch.from_numpy(semantic.MIRROR)


@dataclass(frozen=True)
class Calibration:
    """What is measured of a trained network, on heads that it has never seen."""

    cov_gain: float = 1.0  # covariance = cov_gain L L^T + cov_floor_px2 identity
    cov_floor_px2: float = 0.0  # of the crop
    presence_slope: float = 1.0  # presence = logistic(slope * (logit - middle))
    presence_middle: float = 0.0
    independent_keypoints: float = 6.0  # see `PoseOptions`

    @classmethod
    def load(cls, path: Path | None) -> Calibration:
        """Of a file of `calibrate`; None: what the network says counts as it stands."""
        return cls() if path is None else cls(*np.load(path)['calibration'].tolist())

    def covariance(self, cholesky: Array) -> Array:
        """(..., 2, 2) px^2 of factors (..., 2, 2) px."""
        cov = cholesky @ cholesky.swapaxes(-1, -2)
        return self.cov_gain * cov + self.cov_floor_px2 * np.eye(2)

    def presence(self, logit: Array) -> Array:
        """(N,) in [0, 1]."""
        return expit(self.presence_slope * (logit - self.presence_middle))


@dataclass(frozen=True)
class Look:
    """What one look at N faces says."""

    keypoints: Keypoints  # of the image
    crops: Crops
    numbers: Tensor  # (N, 437), of the crops


class HeadPredictor:
    """Image and boxes -> semantic keypoints, in several looks."""

    def __init__(
        self, network: Network, calibration: Calibration, looks: int, mirrored: bool = False
    ) -> None:
        """Take a network, what its numbers are worth, and how often to ask it.

        Args:
            network: See `Network`.
            calibration: Of its covariances and presence.
            looks: Crops per face, 1 or more; each follows the keypoints of the one before.
            mirrored: Whether to take the mean with what it says of the mirror image.
        """
        self._network, self._calibration = network, calibration
        self._looks, self._mirrored = looks, mirrored

    def predict(self, image: Image, faces: Faces, camera: Camera, margin: float) -> Look:
        """Measure proposed faces of an image (H, W, 3) uint8; margin is that of the first crop."""
        look = self._look(image, crops_around_faces(faces, camera, CROP_PX, margin), camera)
        for _ in range(self._looks - 1):
            look = self.follow(image, look.keypoints.uv, camera)
        return look

    def follow(self, image: Image, uv: Array, camera: Camera) -> Look:
        """Measure faces whose keypoints (N, 86, 2) px were there a moment ago."""
        return self._look(image, crops_around_heads(uv, camera, CROP_PX, MARGIN), camera)

    @torch.no_grad()
    def _look(self, image: Image, crops: Crops, camera: Camera) -> Look:
        pictures = torch.from_numpy(render_crops(image, crops, camera))
        numbers = self._network(pictures)
        if self._mirrored:
            other = of_mirrored(self._network(pictures.flip(-1)), _MIRROR)
            numbers = 0.5 * (numbers + other)
        return Look(keypoints_of(numbers, crops, camera, self._calibration), crops, numbers)


def crops_around_heads(uv: Array, camera: Camera, size_px: int, margin: float) -> Crops:
    """`crops_around_keypoints` of the faces' bounds, of keypoints (N, 86, 2) px."""
    return crops_around_keypoints(uv[:, semantic.IS_FACE], UPRIGHT, camera, size_px, margin)


def keypoints_of(
    numbers: Tensor, crops: Crops, camera: Camera, calibration: Calibration
) -> Keypoints:
    """Keypoints of the image, of what the network says (N, 437) of N crops."""
    said = read_head(numbers.double())
    uv, seen = crops.to_image(said.uv.numpy(), camera)
    J = crops.jacobian(camera)[:, None]
    cov_uv = J @ calibration.covariance(said.cholesky.numpy()) @ J.swapaxes(-1, -2)
    cov_uv[~seen] = np.diag([np.inf, np.inf])
    presence = calibration.presence(said.presence_logit.numpy())
    return Keypoints(uv, cov_uv, np.where(crops.valid, presence, 0.0))


def to_crop(xyz_cam: Array, crops: Crops) -> Array:
    """Pixels (N, P, 2) of N crops at which their cameras see points (N, P, 3) of the camera."""
    xyz = xyz_cam @ crops.R_cam_crop
    f = crops.focal_px[:, None, None]
    return f * xyz[..., :2] / xyz[..., 2:] + 0.5 * (crops.size_px - 1)


def load_network(path: Path) -> KeypointNetwork:
    """The averaged weights of a training's state, for inference."""
    network = KeypointNetwork()
    network.load_state_dict(torch.load(path, weights_only=True)['average'])
    return fused(network.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
