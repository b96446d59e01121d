"""Label photographs by the two teachers: Face Mesh from the front, the hourglass from the side.

    python -m face_pose_lab.keypoint_net.label_photographs fairface REPOSITORY --out FOLDER

Each picture is read in its own crop and in a mirrored one that is shifted, rolled and scaled the
other way. What both say is averaged; how far they are apart is kept, so that training can leave
out what the teachers are not sure of. Nothing is decided here but which picture shows a face.

A shard holds pictures (N, 160, 160, 3) uint8 RGB, upright, the face's keypoints in the middle,
their bounding square 1 / 1.9 of its side; and labels.npz:

    name           (N,)        path in the source
    K_crop         (N, 3, 3)   of the crop's camera, of a guessed field of view
    mesh_uv        (N, 86, 2)  px of the crop: of the model that was fitted to Face Mesh's points
    mesh_direct_uv (N, 86, 2)  px: Face Mesh's own points; NaN at ears and skull
    mesh_T         (N, 4, 4)   pose of that model
    mesh_presence  (N,)        the lesser of both
    mesh_apart     (N,)        mean distance between both readings over the side of the face
    head_uv, head_T, head_apart    of the hourglass, NaN where it was not asked
    head_sigma     (N, 86)     px: what it says of its own errors
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.keypoint_net.sources import SOURCES, Photograph, read_photographs
from face_pose_lab.training.shards import Shard, shard_folder, write_manifest, write_shard
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.faces.detector import FaceDetector
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.crop import (
    FaceCrops,
    crops_around_boxes,
    crops_around_keypoints,
    jittered,
    render_crops,
)
from face_pose_ros.keypoints.face_mesh import CROP_SIZE_PX, mirror_partners
from face_pose_ros.keypoints.hourglass import PackagedHourglass, read_packaged
from face_pose_ros.keypoints.predictor import crops_around_face
from face_pose_ros.keypoints.uncertainty import keypoint_uncertainty
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fusion import turn_deg
from face_pose_ros.pose.refine import PoseOptions, fit_pose
from face_pose_ros.types import Keypoints

PICTURE_PX = 160
MARGIN = 1.9  # side of the picture over the bounding square of the face's keypoints
SHARD = 512
_CHIP_PX = 224
_PADDING_PX = 112
# The face's bounds in a chip of FairFace, of its side: dlib's box times 1.5 was cut out.
_CHIP_BOX = (0.14, 0.02, 0.86, 0.90)
_ASK_HEAD_FROM_DEG = 32.0  # turn as Face Mesh says it
_SEEN = 0.5  # presence
_MESH_MARGIN, _HEAD_MARGIN = 1.5, 2.0
_FACE = torch.from_numpy(semantic.IS_FACE)
_FACE_MESH_INDEX = torch.from_numpy(semantic.FACE_MESH_INDEX[semantic.IS_FACE])
_MIRROR = torch.from_numpy(semantic.MIRROR)


def _rows(*names: str) -> Tensor:
    return torch.tensor([semantic.NAMES.index(name) for name in names])


_UPRIGHT = (
    _rows('eye_outer_right', 'eye_inner_right'),
    _rows('eye_outer_left', 'eye_inner_left'),
    _rows('forehead', 'glabella'),
    _rows('chin', 'menton'),
)


@dataclass(frozen=True)
class Placed:
    """A picture with a camera, and roughly where the face is."""

    name: str
    image: Tensor  # (H, W, 3) uint8 RGB
    camera: Camera
    box_xyxy: Tensor  # (4,) px


def guessed_camera(width: int, height: int) -> Camera:
    """F is 1.2 times the longer side: 45 deg."""
    f = 1.2 * max(width, height)
    K = [f, 0.0, 0.5 * (width - 1), 0.0, f, 0.5 * (height - 1), 0.0, 0.0, 1.0]
    return Camera.from_K(K, width, height)


def placed_chips(photographs: Iterable[Photograph]) -> Iterator[Placed]:
    """FairFace's chips, padded: the face is in the middle, and the roll is removed."""
    for photograph in photographs:
        if photograph.rgb.shape[:2] != (_CHIP_PX, _CHIP_PX):
            continue
        p = _PADDING_PX
        image = cv2.copyMakeBorder(photograph.rgb, p, p, p, p, cv2.BORDER_REPLICATE)
        camera = guessed_camera(image.shape[1], image.shape[0])
        box = torch.tensor(_CHIP_BOX, dtype=torch.float64) * _CHIP_PX + p
        yield Placed(photograph.name, torch.from_numpy(image), camera, box)


def placed_by_detector(
    photographs: Iterable[Photograph], detector: FaceDetector
) -> Iterator[Placed]:
    """Portraits: of the faces that are found, the largest."""
    for photograph in photographs:
        rgb = photograph.rgb
        factor = 512 / max(rgb.shape[:2])
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        rgb = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=how)
        p = 64
        rgb = cv2.copyMakeBorder(rgb, p, p, p, p, cv2.BORDER_REPLICATE)
        image = torch.from_numpy(rgb)
        faces = detector.detect(image)
        if not len(faces):
            continue
        box = max(faces.boxes_xyxy.double(), key=lambda b: float(b[2] - b[0]))
        camera = guessed_camera(image.shape[1], image.shape[0])
        yield Placed(photograph.name, image, camera, box)


def placed_at_box(name: str, rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float64]) -> Placed:
    """A picture in which the bounds (4,) px of the 68 points of a face are known."""
    camera = guessed_camera(rgb.shape[1], rgb.shape[0])
    left, top, right, bottom = box_xyxy
    # The 68 points end at the brows, the face reaches further up.
    box = torch.tensor([left, top - 0.24 * (bottom - top), right, bottom], dtype=torch.float64)
    return Placed(name, torch.from_numpy(rgb), camera, box)


@dataclass
class Reading:
    """What one teacher says of one picture."""

    uv: Tensor  # (K, 2) px of the image
    cov_uv: Tensor  # (K, 2, 2) px^2
    presence: float
    apart: float


class Teachers:
    """Both networks, and the models that are fitted to what they say."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        networks = load_networks('cpu')
        self._mesh, self._head = networks.keypoints, networks.hourglass
        self.detector = FaceDetector(networks.detector)
        self._uncertainty = keypoint_uncertainty()
        self._face, self._skull = deformable_face(), semantic_head()
        self._partners = mirror_partners()

    def label(self, placed: Placed) -> tuple[NDArray[np.uint8], dict[str, NDArray]] | None:
        """The crop and its labels, or None where nothing is seen."""
        mesh = self._by_mesh(placed)
        fitted = None
        if mesh.presence > _SEEN:
            fitted = self._fit(mesh, self._face, placed.camera, PoseOptions())
        head = None
        if fitted is None or float(turn_deg(fitted[0][None])) > _ASK_HEAD_FROM_DEG:
            head = self._by_head(placed, mesh if fitted is not None else None)
        head_fit = None
        if head is not None:
            options = PoseOptions(visibility=False)
            head_fit = self._fit(head, self._skull, placed.camera, options)
        if fitted is None and head_fit is None:
            return None

        mesh_uv = torch.full((len(_FACE), 2), torch.nan, dtype=torch.float64)
        direct_uv = mesh_uv.clone()
        if fitted is not None:
            T, shape = fitted
            xyz = self._skull.points(shape[None])[0]
            mesh_uv = placed.camera.project(xyz @ T[:3, :3].T + T[:3, 3])[0]
            direct_uv[_FACE] = mesh.uv[_FACE_MESH_INDEX]
        aimed = mesh_uv if head is None else head.uv
        crop = crops_around_keypoints(
            aimed[None, _FACE], *_UPRIGHT, placed.camera, PICTURE_PX, MARGIN
        )
        if not bool(crop.valid.all()) or not bool(crop.R_cam_crop.isfinite().all()):
            return None
        picture = render_crops(placed.image, crop, placed.camera)[0]
        f, c = float(crop.focal_px[0]), 0.5 * (PICTURE_PX - 1)
        nothing = np.full((4, 4), np.nan)

        def pose(fit: tuple[Tensor, Tensor] | None) -> NDArray:
            return nothing if fit is None else _in_crop(fit[0], crop).numpy()

        labels = {
            'name': np.array(placed.name, dtype='U80'),
            'K_crop': np.array([[f, 0, c], [0, f, c], [0, 0, 1]]),
            'mesh_uv': _to_crop(mesh_uv, crop, placed.camera),
            'mesh_direct_uv': _to_crop(direct_uv, crop, placed.camera),
            'mesh_T': pose(fitted),
            'mesh_presence': np.array(mesh.presence),
            'mesh_apart': np.array(mesh.apart),
            'head_uv': np.full((len(_FACE), 2), np.nan),
            'head_T': pose(head_fit),
            'head_apart': np.array(np.nan),
            'head_sigma': np.full(len(_FACE), np.nan),
        }
        if head is not None:
            _, cov_crop = head.uv, head.cov_uv
            sigma = cov_crop.diagonal(dim1=-2, dim2=-1).mean(-1).sqrt()
            scale = f / float(placed.camera.f[0])
            labels['head_uv'] = _to_crop(head.uv, crop, placed.camera)
            labels['head_apart'] = np.array(head.apart)
            labels['head_sigma'] = (sigma * scale).numpy()
        as_float = {k: v if k == 'name' else v.astype(np.float32) for k, v in labels.items()}
        pixels = (255 * picture.permute(1, 2, 0)).round().clamp(0, 255).byte().numpy()
        return pixels, as_float

    def _by_mesh(self, placed: Placed) -> Reading:
        box = placed.box_xyxy[None]
        crops = crops_around_boxes(box, None, placed.camera, CROP_SIZE_PX, _MESH_MARGIN)
        points = self._mesh(render_crops(placed.image, crops, placed.camera))
        if float(points.presence[0]) < 0.1:
            return Reading(points.uv[0], points.uv[0], 0.0, math.inf)
        uv, _ = crops.to_image(points.uv.double(), placed.camera)
        around = crops_around_face(uv, placed.camera)
        crops, mirrored = jittered(around, 2)
        points = self._mesh(render_crops(placed.image, crops, placed.camera))
        uv, _ = crops.to_image(points.uv.double(), placed.camera)
        uv = torch.where(mirrored[:, None, None], uv[:, self._partners], uv)
        J = around.jacobian(placed.camera)
        side = CROP_SIZE_PX * float(J[0].det().abs().sqrt()) / _MESH_MARGIN
        apart = float((uv[0] - uv[1])[:468].norm(dim=-1).mean()) / side
        cov_uv = J[:, None] @ self._uncertainty.cov_crop @ J[:, None].mT
        return Reading(uv.mean(0), cov_uv[0], float(points.presence.min()), apart)

    def _by_head(self, placed: Placed, mesh: Reading | None) -> Reading:
        camera, size_px = placed.camera, PackagedHourglass.OPTIONS.input_px

        def around(uv: Tensor) -> FaceCrops:
            return crops_around_keypoints(
                uv[:, _FACE].contiguous(), *_UPRIGHT, camera, size_px, _HEAD_MARGIN
            )

        if mesh is not None:
            uv = torch.zeros(1, len(_FACE), 2, dtype=torch.float64)
            uv[:, _FACE] = mesh.uv[None, _FACE_MESH_INDEX]
        else:
            box = placed.box_xyxy[None]
            crops = crops_around_boxes(box, None, camera, size_px, _HEAD_MARGIN)
            found = read_packaged(self._head(render_crops(placed.image, crops, camera)))
            uv, _ = crops.to_image(found.uv.double(), camera)
        base = around(uv)
        crops, mirrored = jittered(base, 2)
        found = read_packaged(self._head(render_crops(placed.image, crops, camera)))
        uv, _ = crops.to_image(found.uv.double(), camera)
        uv = torch.where(mirrored[:, None, None], uv[:, _MIRROR], uv)
        J = base.jacobian(camera)
        side = size_px * float(J[0].det().abs().sqrt()) / _HEAD_MARGIN
        apart = float((uv[0] - uv[1]).norm(dim=-1).mean()) / side
        cov_uv = J[:, None] @ found.cov_uv[:1].double() @ J[:, None].mT
        return Reading(uv.mean(0), cov_uv[0], 1.0, apart)

    @staticmethod
    def _fit(
        reading: Reading, model, camera: Camera, options: PoseOptions
    ) -> tuple[Tensor, Tensor] | None:
        """Pose (4, 4) and shape (C,)."""
        keypoints = Keypoints(reading.uv[None], reading.cov_uv[None], torch.ones(1))
        poses = fit_pose(keypoints, model, camera, options).poses
        return None if bool(poses.failed[0]) else (poses.T_cam_head[0], poses.shape[0])


def _to_crop(uv: Tensor, crop: FaceCrops, camera: Camera) -> NDArray:
    """Image pixels (K, 2) in the crop; NaN stays NaN."""
    known = uv.isfinite().all(-1)
    rays, _ = camera.unproject(torch.where(known[:, None], uv, 0.0)[None])
    rays = rays[0] @ crop.R_cam_crop[0]
    found = crop.focal_px[0] * rays[:, :2] / rays[:, 2:] + 0.5 * (crop.size_px - 1)
    return torch.where(known[:, None], found, torch.nan).numpy()


def _in_crop(T_cam_head: Tensor, crop: FaceCrops) -> Tensor:
    T = T_cam_head.clone()
    T[:3] = crop.R_cam_crop[0].T @ T_cam_head[:3]
    return T


def main(args: Sequence[str] | None = None) -> None:
    """Label what is not labelled yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', choices=tuple(SOURCES))
    parser.add_argument('repository', type=Path, help='a clone of the source')
    parser.add_argument('--out', type=Path, required=True, help='folder of the shards')
    options = parser.parse_args(args)
    paths = SOURCES[options.source](options.repository)
    order = np.random.default_rng(0).permutation(len(paths))
    teachers = Teachers()
    write_manifest(options.out, {'source': options.source, 'count': len(paths), 'margin': MARGIN})
    for number in range(math.ceil(len(paths) / SHARD)):
        folder = shard_folder(options.out, number)
        if Shard(folder).is_complete:
            continue
        chosen = [paths[i] for i in order[number * SHARD : (number + 1) * SHARD]]
        photographs = read_photographs(options.repository, chosen)
        if options.source == 'fairface':
            placed = placed_chips(photographs)
        else:
            placed = placed_by_detector(photographs, teachers.detector)
        found = [label for each in placed if (label := teachers.label(each))]
        if not found:
            continue
        pictures = np.stack([picture for picture, _ in found])
        labels = {k: np.stack([label[k] for _, label in found]) for k in found[0][1]}
        write_shard(folder, pictures, labels)
        print(f'{number}: {len(found)} of {len(chosen)}', flush=True)


if __name__ == '__main__':
    main()
