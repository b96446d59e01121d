"""Image + Faces -> Keypoints in full-image pixels, with Face Mesh V2."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.crop import (
    FaceCrops,
    crops_around_boxes,
    crops_around_keypoints,
    render_crops,
)
from face_pose_ros.keypoints.face_mesh import CROP_SIZE_PX, POINTS, FaceMeshPoints
from face_pose_ros.types import Faces, Keypoints

# Side of the crop over the side of the face's box, as the network was trained.
_MARGIN = 1.5
# Mean move of the keypoints, of the crop's side, below which another look gains nothing.
_SETTLED = 0.01
# Move in the last look beyond which the crop never caught up with the face.
_LOST = 0.02
# Standard deviation of a keypoint in the 256 px crop, see docs/evaluation.md.
_SIGMA_CROP_PX = 2.5

# Keypoints that keep the crop upright: rings of both eyes, and the ends of the midline.
_EYE_RIGHT = torch.tensor([33, 133, 159, 145])
_EYE_LEFT = torch.tensor([263, 362, 386, 374])
_FOREHEAD = torch.tensor([10, 151])
_CHIN = torch.tensor([152, 175])
# The irises behind the 468 points of the face's surface turn with the gaze, not with the head.
_SURFACE_POINTS = 468


class KeypointPredictor:
    """Face Mesh V2 on upright crops.

    The first look follows the detector's box, whose scale and centre are rough; a further look
    follows the keypoints of the look before, and shows the network what it was trained on. A face
    that is where it was in the image before needs one look only.
    """

    def __init__(self, network: nn.Module, looks: int) -> None:
        """Take the network of `face_mesh_v2` and how often to look at a face at most."""
        self.network = network
        self.looks = looks

    def predict(self, image: Tensor, faces: Faces, camera: Camera) -> Keypoints:
        """Measure the keypoints of proposed faces, in one batch per look.

        Args:
            image: (H, W, 3) uint8 RGB.
            faces: N faces; if any lacks its anchors (NaN), all are taken as upright.
            camera: The image's camera, float64, on the image's device.

        Returns:
            Keypoints of the N faces; presence 0 where the lens has no ray for a crop.
        """
        if len(faces) == 0:
            return _no_keypoints(camera)
        upright = bool(faces.anchors_uv.isnan().any())
        anchors_uv = None if upright else faces.anchors_uv
        crops = crops_around_boxes(faces.boxes_xyxy, anchors_uv, camera, CROP_SIZE_PX, _MARGIN)
        keypoints = self._look(image, crops, camera)
        if self.looks == 1:
            return keypoints
        return self._follow(image, keypoints.uv, camera, self.looks - 1)[0]

    def follow(self, image: Tensor, uv: Tensor, camera: Camera) -> Keypoints:
        """Measure keypoints where faces were a moment ago.

        Args:
            image: (H, W, 3) uint8 RGB.
            uv: (N, 478, 2) px, keypoints in the image before.
            camera: The image's camera, float64, on the image's device.

        Returns:
            As in `predict`; presence 0 too where a face moved too far to be measured well, in
            one look more than a new face gets: it costs less than detecting the face again.
        """
        if len(uv) == 0:
            return _no_keypoints(camera)
        keypoints, moved = self._follow(image, uv, camera, self.looks + 1)
        return replace(keypoints, presence=torch.where(moved < _LOST, keypoints.presence, 0.0))

    def _follow(
        self, image: Tensor, uv: Tensor, camera: Camera, looks: int
    ) -> tuple[Keypoints, Tensor]:
        """Look until the faces stay where the crop expected them, at most `looks` times.

        Returns:
            The keypoints, and how far they moved in the last look (N,), of the crop's side.
        """
        for _ in range(looks):
            crops = crops_around_keypoints(
                uv[:, :_SURFACE_POINTS],
                _EYE_RIGHT,
                _EYE_LEFT,
                _FOREHEAD,
                _CHIN,
                camera,
                CROP_SIZE_PX,
                _MARGIN,
            )
            keypoints = self._look(image, crops, camera)
            side_px = CROP_SIZE_PX * crops.image_px_per_crop_px(camera)
            moved = (keypoints.uv - uv).norm(dim=-1).mean(-1) / side_px
            if bool((moved < _SETTLED).all()):
                break
            uv = keypoints.uv
        return keypoints, moved

    def _look(self, image: Tensor, crops: FaceCrops, camera: Camera) -> Keypoints:
        points: FaceMeshPoints = self.network(render_crops(image, crops, camera))
        uv, seen = crops.to_image(points.uv.to(camera.f), camera)
        sigma_px = _SIGMA_CROP_PX * crops.image_px_per_crop_px(camera)
        variance = torch.where(seen, sigma_px[:, None] ** 2, torch.inf)
        return Keypoints(
            uv=uv,
            cov_uv=torch.diag_embed(variance[..., None].expand(*variance.shape, 2)),
            presence=torch.where(crops.valid, points.presence, 0.0),
        )


def _no_keypoints(camera: Camera) -> Keypoints:
    """Keypoints of no face, without asking the network: empty batches cost milliseconds."""
    empty = camera.f.new_zeros(0)
    return Keypoints(
        empty.view(0, POINTS, 2), empty.view(0, POINTS, 2, 2), empty.float()
    )
