# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Label photographs with two teachers: Face Mesh for frontal heads, the hourglass for others.

    python -m face_pose_lab.keypoint_net.label_photographs fairface REPOSITORY --out FOLDER

Each picture is measured in two crops, one of them mirrored and shifted, rolled and scaled the
other way. The mean of both measurements is the label. Their distance is kept, so that training can
exclude unreliable labels. Only pictures without a face are excluded here.

A shard holds pictures (N, 160, 160, 3) uint8 RGB, upright, the face's keypoints in the middle,
their bounding square 1 / 1.9 of its side; and labels.npz:

    name           (N,)        path in the source
    K_crop         (N, 3, 3)   of the crop's camera, of a guessed field of view
    mesh_uv        (N, 86, 2)  px of the crop: points of the model fitted to Face Mesh's points
    mesh_direct_uv (N, 86, 2)  px: Face Mesh's own points; NaN at ears and skull
    mesh_T         (N, 4, 4)   pose of that model
    mesh_presence  (N,)        the lesser of both
    mesh_apart     (N,)        mean distance of both measurements over the side of the face
    head_uv, head_T, head_apart    the same of the hourglass; NaN if it did not run
    head_sigma     (N, 86)     px: standard deviations predicted by the hourglass
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.evaluation.pose_errors import turn_deg
from face_pose_lab.face_mesh.network import face_mesh_v2
from face_pose_lab.face_mesh.points import CROP_SIZE_PX, mirror_partners
from face_pose_lab.face_mesh.predictor import FIT, crops_around_face
from face_pose_lab.face_mesh.uncertainty import keypoint_uncertainty
from face_pose_lab.head_detector.load import packaged_detector
from face_pose_lab.hourglass.network import packaged_hourglass
from face_pose_lab.hourglass.numbers import INPUT_PX, read_keypoints
from face_pose_lab.jittered import jittered
from face_pose_lab.keypoint_net.predict import to_crop
from face_pose_lab.keypoint_net.sources import SOURCES, Photograph, read_photographs
from face_pose_lab.training.shards import Shard, shard_folder, write_manifest, write_shard
from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.faces.head_detector import HeadDetector
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops, crops_around_boxes, render_crops
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.face_mesh import SURFACE_POINTS
from face_pose_ros.keypoints.predictor import FACE_MESH_INDEX, crops_around_heads
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel, deformable_face, semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Keypoints

PICTURE_PX = 160
MARGIN = 1.9  # side of the picture over the bounding square of the face's keypoints
SHARD = 512
Array = NDArray[np.float64]

_CHIP_PX = 224
_PADDING_PX = 112
# Bounds of the face in a chip of FairFace, in sides of the chip, which is 1.5 times dlib's box.
_CHIP_BOX: Array = np.array([0.14, 0.02, 0.86, 0.90])
_HEAD_FROM_DEG = 32.0  # the hourglass also runs above this angle to the camera, by Face Mesh
_SEEN = 0.5  # presence
_MESH_MARGIN, _HEAD_MARGIN = 1.5, 2.0
_KEYPOINTS = len(semantic.NAMES)


@dataclass(frozen=True)
class Placed:
    """A picture with a camera and an approximate face box."""

    name: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    camera: Camera
    box_xyxy: Array  # (4,) px


def guessed_camera(width: int, height: int) -> Camera:
    """A camera with f = 1.2 times the longer side, a field of view of 45 deg."""
    f = 1.2 * max(width, height)
    K = [f, 0.0, 0.5 * (width - 1), 0.0, f, 0.5 * (height - 1), 0.0, 0.0, 1.0]
    return Camera.from_K(K, width, height)


def _padded(rgb: NDArray[Any], by_px: int) -> NDArray[np.uint8]:
    """The picture with its border repeated by so many pixels."""
    return np.pad(rgb, ((by_px, by_px), (by_px, by_px), (0, 0)), mode='edge')


def placed_chips(photographs: Iterable[Photograph]) -> Iterator[Placed]:
    """FairFace's chips, padded; their faces are centred and upright."""
    for photograph in photographs:
        if photograph.rgb.shape[:2] != (_CHIP_PX, _CHIP_PX):
            continue
        p = _PADDING_PX
        image = _padded(photograph.rgb, p)
        camera = guessed_camera(image.shape[1], image.shape[0])
        yield Placed(photograph.name, image, camera, _CHIP_PX * _CHIP_BOX + p)


def placed_by_detector(
    photographs: Iterable[Photograph], detector: HeadDetector
) -> Iterator[Placed]:
    """Portraits, with the largest detected face; those without a face are skipped."""
    for photograph in photographs:
        factor = 512 / max(photograph.rgb.shape[:2])
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        resized = cv2.resize(photograph.rgb, None, fx=factor, fy=factor, interpolation=how)
        rgb = _padded(resized, 64)
        camera = guessed_camera(rgb.shape[1], rgb.shape[0])
        faces = detector.detect(rgb, camera)
        if not len(faces):
            continue
        box = max(faces.boxes_xyxy.astype(np.float64), key=lambda b: float(b[2] - b[0]))
        yield Placed(photograph.name, rgb, camera, box)


def placed_at_box(name: str, rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float64]) -> Placed:
    """A picture with known bounds (4,) px of the 68 points of a face."""
    camera = guessed_camera(rgb.shape[1], rgb.shape[0])
    left, top, right, bottom = box_xyxy
    # The 68 points end at the brows; the face box reaches higher.
    box = np.array([left, top - 0.24 * (bottom - top), right, bottom])
    return Placed(name, rgb, camera, box)


@dataclass
class Measurement:
    """Measurement of one picture by one teacher."""

    uv: Array  # (K, 2) px of the image
    cov_uv: Array  # (K, 2, 2) px^2
    presence: float
    apart: float


class Teachers:
    """Both networks, and the models that are fitted to their keypoints."""

    def __init__(self) -> None:
        self._mesh = TorchNetwork(face_mesh_v2(), 'cpu')
        self._head = TorchNetwork(packaged_hourglass(), 'cpu')
        self.detector = packaged_detector()
        self._uncertainty = keypoint_uncertainty()
        self._face, self._skull = deformable_face(), semantic_head()
        self._partners = mirror_partners()

    def label(self, placed: Placed) -> tuple[NDArray[np.uint8], dict[str, NDArray]] | None:
        """The crop and its labels, or None if no face is measured."""
        mesh = self._by_mesh(placed)
        fitted = None
        if mesh.presence > _SEEN:
            fitted = self._fit(mesh, self._face, placed.camera, FIT)
        head = None
        if fitted is None or turn_deg(fitted[0][None])[0] > _HEAD_FROM_DEG:
            head = self._by_head(placed, mesh if fitted is not None else None)
        head_fit = None
        if head is not None:
            options = PoseOptions(independent_keypoints=6.0)
            head_fit = self._fit(head, self._skull, placed.camera, options)
        if fitted is None and head_fit is None:
            return None

        mesh_uv = np.full((_KEYPOINTS, 2), np.nan)
        direct_uv = mesh_uv.copy()
        if fitted is not None:
            T, shape = fitted
            xyz = self._skull.points(shape[None])[0]
            mesh_uv = placed.camera.project(xyz @ T[:3, :3].T + T[:3, 3]).uv
            direct_uv[semantic.IS_FACE] = mesh.uv[FACE_MESH_INDEX]
        aimed = mesh_uv if head is None else head.uv
        crop = crops_around_heads(aimed[None, semantic.IS_FACE], placed.camera, PICTURE_PX, MARGIN)
        if not crop.valid.all() or not np.isfinite(crop.R_cam_crop).all():
            return None
        f, c = float(crop.focal_px[0]), 0.5 * (PICTURE_PX - 1)
        nothing = np.full((4, 4), np.nan)

        def pose(fit: tuple[Array, Array] | None) -> Array:
            return nothing if fit is None else _in_crop(fit[0], crop)

        labels = {
            'name': np.array(placed.name, dtype='U80'),
            'K_crop': np.array([[f, 0, c], [0, f, c], [0, 0, 1]]),
            'mesh_uv': _to_crop(mesh_uv, crop, placed.camera),
            'mesh_direct_uv': _to_crop(direct_uv, crop, placed.camera),
            'mesh_T': pose(fitted),
            'mesh_presence': np.array(mesh.presence),
            'mesh_apart': np.array(mesh.apart),
            'head_uv': np.full((_KEYPOINTS, 2), np.nan),
            'head_T': pose(head_fit),
            'head_apart': np.array(np.nan),
            'head_sigma': np.full(_KEYPOINTS, np.nan),
        }
        if head is not None:
            sigma = np.sqrt(np.diagonal(head.cov_uv, axis1=-2, axis2=-1).mean(-1))
            scale = f / placed.camera.K[0, 0]
            labels['head_uv'] = _to_crop(head.uv, crop, placed.camera)
            labels['head_apart'] = np.array(head.apart)
            labels['head_sigma'] = sigma * scale
        as_float = {k: v if k == 'name' else v.astype(np.float32) for k, v in labels.items()}
        return picture_of(placed.image, crop, placed.camera), as_float

    def _by_mesh(self, placed: Placed) -> Measurement:
        box = placed.box_xyxy[None]
        crops = crops_around_boxes(box, placed.camera, CROP_SIZE_PX, _MESH_MARGIN)
        uv_crop, _, presence = self._mesh.on_crops(placed.image, crops, placed.camera)
        uv, _ = crops.to_image(uv_crop, placed.camera)
        if presence[0] < 0.1:
            unknown = np.full((len(uv[0]), 2, 2), np.nan)
            return Measurement(uv[0], unknown, 0.0, math.inf)
        around = crops_around_face(uv, placed.camera)
        crops, mirrored = jittered(around, 2)
        uv_crop, _, presence = self._mesh.on_crops(placed.image, crops, placed.camera)
        uv, _ = crops.to_image(uv_crop, placed.camera)
        uv[mirrored] = uv[mirrored][:, self._partners]
        J = around.jacobian(placed.camera)
        side = CROP_SIZE_PX * math.sqrt(abs(np.linalg.det(J[0]))) / _MESH_MARGIN
        apart = np.linalg.norm((uv[0] - uv[1])[:SURFACE_POINTS], axis=-1).mean() / side
        cov_uv = J[0] @ self._uncertainty.cov_crop @ J[0].T
        return Measurement(uv.mean(0), cov_uv, float(presence.min()), float(apart))

    def _by_head(self, placed: Placed, mesh: Measurement | None) -> Measurement:
        camera = placed.camera

        def measured(crops: Crops) -> tuple[Array, Array]:
            (numbers,) = self._head.on_crops(placed.image, crops, camera)
            uv_crop, cov_crop, _ = read_keypoints(numbers)
            return crops.to_image(uv_crop, camera)[0], cov_crop

        if mesh is not None:
            uv = np.zeros((1, _KEYPOINTS, 2))
            uv[:, semantic.IS_FACE] = mesh.uv[FACE_MESH_INDEX]
        else:
            box = placed.box_xyxy[None]
            uv, _ = measured(crops_around_boxes(box, camera, INPUT_PX, _HEAD_MARGIN))
        base = crops_around_heads(uv[:, semantic.IS_FACE], camera, INPUT_PX, _HEAD_MARGIN)
        crops, mirrored = jittered(base, 2)
        uv, cov_crop = measured(crops)
        uv[mirrored] = uv[mirrored][:, semantic.MIRROR]
        J = base.jacobian(camera)[0]
        side = INPUT_PX * math.sqrt(abs(np.linalg.det(J))) / _HEAD_MARGIN
        apart = np.linalg.norm(uv[0] - uv[1], axis=-1).mean() / side
        return Measurement(uv.mean(0), J @ cov_crop[0] @ J.T, 1.0, float(apart))

    @staticmethod
    def _fit(
        measurement: Measurement, model: FaceModel, camera: Camera, options: PoseOptions
    ) -> tuple[Array, Array] | None:
        """Pose (4, 4) and shape (C,)."""
        keypoints = Keypoints(measurement.uv[None], measurement.cov_uv[None], np.ones(1))
        poses = fit_pose(keypoints, model, camera, options).poses
        return None if poses.failed[0] else (poses.T_cam_head[0], poses.shape[0])


def picture_of(image: NDArray[np.uint8], crop: Crops, camera: Camera) -> NDArray[np.uint8]:
    """The picture (S, S, 3) of one crop."""
    picture = render_crops(image, crop, camera)[0].transpose(1, 2, 0)
    return np.rint(255 * picture).clip(0, 255).astype(np.uint8)


def _to_crop(uv: Array, crop: Crops, camera: Camera) -> Array:
    """Image pixels (K, 2) in the crop; NaN stays NaN."""
    known = np.isfinite(uv).all(-1, keepdims=True)
    rays, _ = camera.unproject(np.where(known, uv, 0.0))
    return np.where(known, to_crop(rays[None], crop)[0], np.nan)


def _in_crop(T_cam_head: Array, crop: Crops) -> Array:
    T = T_cam_head.copy()
    T[:3] = crop.R_cam_crop[0].T @ T_cam_head[:3]
    return T


def label_source(
    source: str,
    repository: Path,
    out: Path,
    label: Callable[[Placed], tuple[NDArray[np.uint8], dict[str, NDArray]] | None],
    detector: HeadDetector,
    first: int = 0,
) -> None:
    """Write the missing shards of a source.

    Args:
        source: One of SOURCES.
        repository: A clone of it.
        out: Folder of the shards.
        label: Picture and labels of a face; None if there are none.
        detector: Detects faces in sources that are not cropped to faces.
        first: Shard to begin with.
    """
    paths = SOURCES[source](repository)
    order = np.random.default_rng(0).permutation(len(paths))
    for number in range(first, math.ceil(len(paths) / SHARD)):
        folder = shard_folder(out, number)
        if Shard(folder).is_complete:
            continue
        chosen = [paths[i] for i in order[number * SHARD : (number + 1) * SHARD]]
        read = read_photographs(repository, chosen)
        placed = placed_chips(read) if source == 'fairface' else placed_by_detector(read, detector)
        found = [labelled for each in placed if (labelled := label(each))]
        if not found:
            continue
        pictures = np.stack([picture for picture, _ in found])
        labels = {k: np.stack([each[k] for _, each in found]) for k in found[0][1]}
        write_shard(folder, pictures, labels)
        print(f'{number}: {len(found)} of {len(chosen)}', flush=True)


def main(args: Sequence[str] | None = None) -> None:
    """Label the pictures that are not labelled yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', choices=tuple(SOURCES))
    parser.add_argument('repository', type=Path, help='a clone of the source')
    parser.add_argument('--out', type=Path, required=True, help='folder of the shards')
    options = parser.parse_args(args)
    teachers = Teachers()
    write_manifest(options.out, {'source': options.source, 'margin': MARGIN})
    label_source(
        options.source, options.repository, options.out, teachers.label, teachers.detector
    )


if __name__ == '__main__':
    main()
