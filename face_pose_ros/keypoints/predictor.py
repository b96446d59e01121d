"""Image + Faces -> Keypoints in full-image pixels, with Face Mesh V2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.lens import lens_of
from face_pose_ros.keypoints import compiled
from face_pose_ros.keypoints.crop import (
    FaceCrops,
    crops_around_faces,
    crops_around_keypoints,
    jittered,
    render_crops,
)
from face_pose_ros.keypoints.face_mesh import (
    CROP_SIZE_PX,
    EYELIDS,
    POINTS,
    FaceMeshPoints,
    mirror_partners,
)
from face_pose_ros.keypoints.uncertainty import KeypointUncertainty, keypoint_uncertainty
from face_pose_ros.types import Faces, Keypoints

# Side of the crop over the side of the face's box, as the network was trained.
_MARGIN = 1.5
# Mean move of the keypoints, of the crop's side, below which another look gains nothing.
_SETTLED = 0.01
# Move in the last look beyond which the crop never caught up with the face.
_LOST = 0.02
# Mean move of the keypoints, of the face's size, beyond which it has to settle: a crop that began
# so far off may show a part of the face, where the keypoints creep on to a wrong place.
_FAR = 0.25

# Keypoints that keep the crop upright: rings of both eyes, and the ends of the midline.
_EYE_RIGHT, _EYE_LEFT = torch.tensor(EYELIDS)
_FOREHEAD = torch.tensor([10, 151])
_CHIN = torch.tensor([152, 175])
# The irises behind the 468 points of the face's surface turn with the gaze, not with the head.
_SURFACE_POINTS = 468


class KeypointPredictor:
    """Face Mesh V2 on upright crops.

    The first look follows the detector's box, whose scale and centre are rough; a further look
    follows the keypoints of the look before, and shows the network what it was trained on. A face
    that is where it was in the image before needs one look only. The mean of several jittered
    crops is more precise than the last look, and what they disagree on tells of its error.
    """

    def __init__(
        self,
        network: Callable[[Tensor], FaceMeshPoints],
        looks: int,
        jitters: int = 0,
        device: torch.device | str = 'cpu',
    ) -> None:
        """Take the network and how much to make of it.

        Args:
            network: `face_mesh_v2`, or the same network run by another engine.
            looks: How often to look at a new face at most, 1 or more.
            jitters: Crops to average for each face after that; 0 takes the last look.
            device: The network's. All else happens on the CPU, but for an image on this device.
        """
        self.network = network
        self.looks = looks
        self.jitters = jitters
        self._device = torch.device(device)
        self._uncertainty = keypoint_uncertainty()
        self._mirror_partners = mirror_partners()

    def predict(self, image: Tensor, faces: Faces, camera: Camera) -> Keypoints:
        """Measure the keypoints of proposed faces, in one batch per look.

        Args:
            image: (H, W, 3) uint8 RGB.
            faces: N faces; if any lacks its anchors (NaN), all are taken as upright.
            camera: The image's camera, float64, on the CPU.

        Returns:
            Keypoints of the N faces; presence 0 where the lens has no ray for a crop.
        """
        if len(faces) == 0:
            return unmeasured(0, POINTS, camera)
        crops = crops_around_faces(faces, camera, CROP_SIZE_PX, _MARGIN)
        keypoints, _ = self._look(image, crops, camera)
        if self.looks > 1:
            keypoints = self._follow(image, keypoints.uv, camera, self.looks - 1)[0]
        return self._sharpened(image, keypoints, camera)

    def follow(self, image: Tensor, uv: Tensor, camera: Camera) -> Keypoints:
        """Measure keypoints where faces were a moment ago.

        Args:
            image: (H, W, 3) uint8 RGB.
            uv: (N, 478, 2) px, keypoints in the image before.
            camera: The image's camera, float64, on the CPU.

        Returns:
            As in `predict`; presence 0 too where a face moved too far to be measured well, in
            one look more than a new face gets: it costs less than detecting the face again.
        """
        if len(uv) == 0:
            return unmeasured(0, POINTS, camera)
        keypoints, moved = self._follow(image, uv, camera, self.looks + 1)
        way_px = (keypoints.uv - uv).norm(dim=-1).mean(-1)
        is_far = way_px > _FAR * (uv.amax(1) - uv.amin(1)).amax(-1)
        found = moved < torch.where(is_far, _SETTLED, _LOST)
        keypoints = self._sharpened(image, keypoints, camera)
        return replace(keypoints, presence=torch.where(found, keypoints.presence, 0.0))

    def _follow(
        self, image: Tensor, uv: Tensor, camera: Camera, looks: int
    ) -> tuple[Keypoints, Tensor]:
        """Look until each face stays where the crop expected it, at most `looks` times.

        Returns:
            The keypoints, and how far they moved in the last look (N,), of the crop's side.
        """
        crops = crops_around_face(uv, camera)
        keypoints, side_px = self._look(image, crops, camera)
        moved = (keypoints.uv - uv).norm(dim=-1).mean(-1) / side_px
        again = (moved >= _SETTLED).nonzero()[:, 0]
        if looks > 1 and len(again):
            closer, moved_again = self._follow(image, keypoints.uv[again], camera, looks - 1)
            keypoints = keypoints.replaced(again, closer)
            moved = moved.index_copy(0, again, moved_again)
        return keypoints, moved

    def _sharpened(self, image: Tensor, keypoints: Keypoints, camera: Camera) -> Keypoints:
        if self.jitters == 0:
            return keypoints
        return self.average(image, keypoints, camera, self.jitters)[0]

    def average(
        self, image: Tensor, keypoints: Keypoints, camera: Camera, jitters: int
    ) -> tuple[Keypoints, Tensor]:
        """Mean of the keypoints in jittered crops, weighted by their presences.

        Args:
            image: (H, W, 3) uint8 RGB.
            keypoints: Of N faces, in one look.
            camera: As in `predict`.
            jitters: J, crops per face, 1 or more.

        Returns:
            The keypoints, of which at least two looks must have seen a face; and the spread (N,)
            px^2 of the crop: how far the looks are from their mean, the variance of a coordinate
            averaged over the keypoints, for those of a difficult face err together.
        """
        around = crops_around_face(keypoints.uv, camera)
        crops, is_mirrored = jittered(around, jitters)
        looks, _ = self._look(image, crops, camera)
        uv = looks.uv.unflatten(0, (-1, jitters))
        partners = self._mirror_partners.to(uv.device)
        uv = torch.where(is_mirrored[:, None, None], uv[:, :, partners], uv)
        presence = looks.presence.unflatten(0, (-1, jitters))
        # Crops without a face count too where no other has one: the mean must exist.
        weight = (presence.to(uv) + 1e-3)[..., None, None]
        mean = (weight * uv).sum(1) / weight.sum(1)
        J = around.jacobian(camera)[:, None]
        off = torch.linalg.solve(J, (uv - mean[:, None])[:, :, :_SURFACE_POINTS].mT)
        spread = off.square().mean((1, 2, 3))
        cov_uv = J @ self._uncertainty.of_average(spread) @ J.mT
        unseen = keypoints.cov_uv.isinf().any(-1).any(-1)
        presences = torch.cat([keypoints.presence[:, None], presence], 1)
        return Keypoints(
            uv=mean,
            cov_uv=torch.where(unseen[..., None, None], keypoints.cov_uv, cov_uv),
            presence=presences.topk(2).values[:, 1],
        ), spread

    def _look(self, image: Tensor, crops: FaceCrops, camera: Camera) -> tuple[Keypoints, Tensor]:
        """Keypoints in the image, and the side (N,) px that each crop has there."""
        points = self.network(render_crops(image, crops, camera, self._device))
        uv_crop, presence = _on_cpu(points)
        presence = torch.where(crops.valid, presence, 0.0)
        uv, cov_uv, J = carried_to_image(uv_crop, crops, camera, self._uncertainty)
        a, b, c, d = J.flatten(1).unbind(1)
        return Keypoints(uv, cov_uv, presence), CROP_SIZE_PX * (a * d - b * c).abs().sqrt()


def crops_around_face(uv: Tensor, camera: Camera) -> FaceCrops:
    """The crops that show N faces to the network, from their keypoints (N, 478, 2) px."""
    return crops_around_keypoints(
        uv[:, :_SURFACE_POINTS],
        _EYE_RIGHT,
        _EYE_LEFT,
        _FOREHEAD,
        _CHIN,
        camera,
        CROP_SIZE_PX,
        _MARGIN,
    )


def carried_to_image(
    uv_crop: Tensor, crops: FaceCrops, camera: Camera, uncertainty: KeypointUncertainty
) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints of one look in the image.

    Args:
        uv_crop: (N, K, 2) px, keypoints in N crops, on the CPU.
        crops: The crops.
        camera: The image's camera, float64.
        uncertainty: Of the keypoints.

    Returns:
        (N, K, 2) px, their covariances (N, K, 2, 2) px^2, infinite where the camera does not see
        that far, and `FaceCrops.jacobian`.
    """
    back = compiled.to_image(
        uv_crop.numpy(),
        uncertainty.factor_of_look(uv_crop).numpy(),
        uncertainty.cov_crop.numpy(),
        crops.aim,
        lens_of(camera),
        crops.size_px,
    )
    uv, cov_uv, J = (torch.from_numpy(array) for array in back)
    return uv, cov_uv, J


def _on_cpu(points: FaceMeshPoints) -> tuple[Tensor, Tensor]:
    """Keypoints (N, 478, 2) px and presences (N,), in one download."""
    if points.uv.device.type == 'cpu':
        return points.uv, points.presence
    both = torch.cat([points.uv.flatten(1), points.presence[:, None]], 1).cpu()
    return both[:, :-1].unflatten(1, (-1, 2)).contiguous(), both[:, -1]


def unmeasured(count: int, points: int, camera: Camera) -> Keypoints:
    """Keypoints (N, K) that no network was asked for: empty batches cost milliseconds."""
    uv = camera.f.new_zeros(count, points, 2)
    cov_uv = torch.diag_embed(torch.full_like(uv, torch.inf))
    return Keypoints(uv, cov_uv, uv.new_zeros(count).float())
