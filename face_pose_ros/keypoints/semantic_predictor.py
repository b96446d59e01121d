"""Image + Faces -> the semantic keypoints of heads, with the hourglass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.crop import (
    FaceCrops,
    crops_around_faces,
    crops_around_keypoints,
    render_crops,
)
from face_pose_ros.keypoints.heatmaps import CropKeypoints
from face_pose_ros.keypoints.hourglass import (
    KeypointCalibration,
    PackagedHourglass,
    packaged_calibration,
    read_packaged,
)
from face_pose_ros.keypoints.predictor import unmeasured
from face_pose_ros.types import Faces, Keypoints

POINTS = len(semantic.NAMES)
# Side of the crop over that of the face keypoints' bounds, as rendered.
_MARGIN = 2.0
IS_FACE = torch.from_numpy(semantic.IS_FACE)
FACE_MESH_INDEX = torch.from_numpy(semantic.FACE_MESH_INDEX[semantic.IS_FACE])


def _indices(*names: str) -> Tensor:
    """Among the face keypoints, which come first."""
    return torch.tensor([semantic.NAMES.index(name) for name in names])


_EYE_RIGHT = _indices('eye_outer_right', 'eye_inner_right')
_EYE_LEFT = _indices('eye_outer_left', 'eye_inner_left')
_FOREHEAD = _indices('forehead', 'glabella')
_CHIN = _indices('chin', 'menton')


class SemanticPredictor:
    """The hourglass on upright crops, from all around the head.

    As in `KeypointPredictor`, the first look follows a box, every further one the keypoints of the
    look before.
    """

    def __init__(
        self,
        network: Callable[[Tensor], CropKeypoints],
        size_px: int,
        calibration: KeypointCalibration,
        looks: int,
        device: torch.device | str = 'cpu',
    ) -> None:
        """Take the network and how often to ask it.

        Args:
            network: Crops (N, 3, size_px, size_px) -> keypoints (N, 86), on the CPU.
            size_px: Side of its crops.
            calibration: What its covariances and confidences mean.
            looks: Crops per new face, 1 or more.
            device: The network's. All else happens on the CPU, but for an image on this device.
        """
        self.network = network
        self.looks = looks
        self._size_px = size_px
        self._device = torch.device(device)
        self._calibration = calibration

    def predict(
        self, image: Tensor, faces: Faces, camera: Camera, margin: float = _MARGIN
    ) -> Keypoints:
        """Measure the keypoints of proposed faces, in one batch per look.

        Args:
            image: (H, W, 3) uint8 RGB.
            faces: N faces; if any lacks its anchors (NaN), all are taken as upright.
            camera: The image's camera, float64, on the CPU.
            margin: Side of the first crop over that of the box.

        Returns:
            Keypoints of the N faces; presence 0 where the lens has no ray for a crop.
        """
        if len(faces) == 0:
            return unmeasured(0, POINTS, camera)
        crops = crops_around_faces(faces, camera, self._size_px, margin)
        keypoints = self._look(image, crops, camera)
        for _ in range(self.looks - 1):
            keypoints = self.follow(image, keypoints.uv[:, IS_FACE], camera)
        return keypoints

    def follow(self, image: Tensor, uv_face: Tensor, camera: Camera) -> Keypoints:
        """Measure keypoints where faces were a moment ago.

        Args:
            image: (H, W, 3) uint8 RGB.
            uv_face: (N, 56, 2) px, the keypoints of the face, in the order of FACE_MESH_INDEX.
            camera: The image's camera, float64, on the CPU.
        """
        if len(uv_face) == 0:
            return unmeasured(0, POINTS, camera)
        crops = crops_around_keypoints(
            uv_face,
            _EYE_RIGHT,
            _EYE_LEFT,
            _FOREHEAD,
            _CHIN,
            camera,
            self._size_px,
            _MARGIN,
        )
        return self._look(image, crops, camera)

    def _look(self, image: Tensor, crops: FaceCrops, camera: Camera) -> Keypoints:
        uv_crop, cov_crop, confidence = self.network(
            render_crops(image, crops, camera, self._device)
        )
        uv, seen = crops.to_image(uv_crop.to(camera.f), camera)
        J = crops.jacobian(camera)[:, None]
        cov_uv = J @ self._calibration.covariance(cov_crop.to(camera.f)) @ J.mT
        unseen = torch.diag_embed(torch.full_like(uv, torch.inf))
        cov_uv = torch.where(seen[..., None, None], cov_uv, unseen)
        presence = self._calibration.presence(confidence.float())
        return Keypoints(uv, cov_uv, torch.where(crops.valid, presence, 0.0))


def packaged_predictor(
    network: Callable[[Tensor], Tensor], looks: int, device: torch.device | str = 'cpu'
) -> SemanticPredictor:
    """Asks the packaged hourglass, whichever engine runs it; arguments as in SemanticPredictor."""
    size_px = PackagedHourglass.OPTIONS.input_px
    calibration = packaged_calibration()
    return SemanticPredictor(
        lambda crops: read_packaged(network(crops)), size_px, calibration, looks, device
    )
