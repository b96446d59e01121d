"""The AFLW2000-3D protocol: keypoints once, then poses of any configuration from the same ones.

    python -m face_pose_ros.evaluation.aflw2000 export --data DIR --out keypoints.npz
    python -m face_pose_ros.evaluation.aflw2000 score keypoints.npz

Box: the bounds of the 68 labelled points, without a margin of its own. Camera: f = width + height,
principal point at the centre, no distortion. Pictures with an angle beyond 99 deg are left out.
DIR holds `labels.json` ({name: {pitch_yaw_roll_deg, points68_xyz_px}}) and `images/NAME.jpg`. The
pictures are for research only and no part of this package.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from face_pose_ros.evaluation import metrics
from face_pose_ros.evaluation.portraits import load_image
from face_pose_ros.evaluation.virtual_camera import photo_camera
from face_pose_ros.geometry import so3
from face_pose_ros.keypoints import predictor as prediction
from face_pose_ros.keypoints.crop import FaceCrops, crops_around_keypoints
from face_pose_ros.keypoints.face_mesh import CROP_SIZE_PX, face_mesh_v2
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.pose.face_model import FaceModel, canonical_face, deformable_face
from face_pose_ros.pose.refine import PoseOptions, fit_pose
from face_pose_ros.types import Faces, Keypoints

_SURFACE_POINTS = 468  # the irises behind them turn with the gaze
MIN_PRESENCE = 0.5  # below it a face counts as not answered

# Jitter of a crop about the one that the keypoints ask for: at most so much, uniformly.
_JITTER_SCALE = math.log(1.08)
_JITTER_ROLL = math.radians(10)
_JITTER_SHIFT = 0.04  # of the crop's side


class DataError(Exception):
    """What is wrong with the pictures, labels or keypoints, and in which file."""


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    name: str
    path: Path
    pitch_yaw_roll_deg: NDArray[np.float64]  # (3,)
    box_xyxy: NDArray[np.float64]  # (4,) px, bounds of the 68 points


@dataclass(frozen=True)
class Export:
    """Keypoints of all pictures; M is the number of jittered crops, K that of keypoints."""

    names: NDArray[np.str_]  # (N,)
    image_size: NDArray[np.int64]  # (2,) width, height [px], one for all
    pitch_yaw_roll_deg: NDArray[np.float64]  # (N, 3) labels
    boxes_xyxy: NDArray[np.float64]  # (N, 4) px
    uv: NDArray[np.float32]  # (N, K, 2) px, as the estimator measures them
    cov_uv: NDArray[np.float32]  # (N, K, 2, 2) px^2
    presence: NDArray[np.float32]  # (N,)
    image_px_per_crop_px: NDArray[np.float32]  # (N,)
    jitter_uv: NDArray[np.float32]  # (N, M, K, 2) px, in jittered crops about those keypoints
    jitter_presence: NDArray[np.float32]  # (N, M)
    mirror_uv: NDArray[np.float32]  # (N, M, K, 2) px, the same crops seen in a mirror, put back
    mirror_presence: NDArray[np.float32]  # (N, M)

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez_compressed(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Export:
        """Read what `save` wrote.

        Raises:
            DataError: There is no such file, or it was not written by `save`.
        """
        try:
            with np.load(path) as arrays:
                return cls(**{f.name: arrays[f.name] for f in fields(cls)})
        except FileNotFoundError:
            raise DataError(f'{path}: no such file') from None
        except Exception as error:  # np.load raises whatever the damaged bytes lead it to
            raise DataError(f'{path}: not a file of `export` ({error})') from error


def load_samples(folder: Path) -> list[Sample]:
    """The labelled pictures of a folder within the protocol's range.

    Raises:
        DataError: The folder, its labels.json or an entry is missing or damaged.
    """
    path = folder / 'labels.json'
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    try:
        labels = json.loads(path.read_text())
        if not isinstance(labels, dict):
            raise DataError(f'{path}: not an object of pictures by name')
    except FileNotFoundError:
        raise DataError(f'{path}: no such file') from None
    except ValueError as error:
        raise DataError(f'{path}: not JSON ({error})') from error
    samples = [_sample(folder, path, name, entry) for name, entry in labels.items()]
    within = [s for s in samples if np.abs(s.pitch_yaw_roll_deg).max() <= metrics.MAX_ANGLE_DEG]
    if not within:
        raise DataError(f'{path}: no picture within {metrics.MAX_ANGLE_DEG:g} deg')
    return within


def _sample(folder: Path, labels: Path, name: str, entry: object) -> Sample:
    try:
        angles, points = (
            np.asarray(entry[key], dtype=np.float64)  # type: ignore[index]
            for key in ('pitch_yaw_roll_deg', 'points68_xyz_px')
        )
    except KeyError as error:
        raise DataError(f'{labels}: {name} has no {error}') from None
    except (TypeError, ValueError) as error:
        raise DataError(f'{labels}: {name} is damaged ({error})') from error
    if angles.shape != (3,) or points.shape != (68, 3):
        raise DataError(f'{labels}: {name} has shapes {angles.shape} and {points.shape}')
    if not (np.isfinite(angles).all() and np.isfinite(points).all()):
        raise DataError(f'{labels}: {name} has numbers that are not finite')
    box = np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])
    return Sample(name, folder / 'images' / f'{name}.jpg', angles, box)


def jittered(crops: FaceCrops, jitters: int) -> FaceCrops:
    """Crops scaled, rolled and shifted a little, `jitters` of each: N * jitters crops.

    The draws are the same in every call and come in pairs of opposite sign: none of them favours
    a side.
    """
    generator = torch.Generator().manual_seed(0)
    half = 2 * torch.rand((jitters + 1) // 2, 4, generator=generator, dtype=torch.float64) - 1
    draws = torch.stack([half, -half], 1).flatten(0, 1)[:jitters].to(crops.focal_px)
    focal_px = crops.focal_px[:, None] * (_JITTER_SCALE * draws[:, 0]).exp()
    # Turning the crop's camera by this angle moves its picture by the shift.
    angle = (_JITTER_SHIFT * crops.size_px * draws[:, 1:3] / focal_px[..., None]).atan()
    roll = (_JITTER_ROLL * draws[:, 3]).expand_as(focal_px)
    turn = so3.exp(torch.stack([-angle[..., 1], angle[..., 0], torch.zeros_like(roll)], -1))
    turn = turn @ so3.exp(torch.stack([torch.zeros_like(roll)] * 2 + [roll], -1))
    return FaceCrops(
        R_cam_crop=(crops.R_cam_crop[:, None] @ turn).flatten(0, 1),
        focal_px=focal_px.flatten(),
        size_px=crops.size_px,
        valid=crops.valid.repeat_interleave(jitters),
    )


def mirrored(crops: FaceCrops) -> FaceCrops:
    """The same crops seen in a mirror: their x axis points the other way."""
    flip = crops.focal_px.new_tensor([-1.0, 1.0, 1.0])
    return replace(crops, R_cam_crop=crops.R_cam_crop * flip)


def join(a: FaceCrops, b: FaceCrops) -> FaceCrops:
    """The crops of both."""
    return FaceCrops(
        torch.cat([a.R_cam_crop, b.R_cam_crop]),
        torch.cat([a.focal_px, b.focal_px]),
        a.size_px,
        torch.cat([a.valid, b.valid]),
    )


def export(folder: Path, jitters: int, looks: int = 2) -> Export:
    """Measure the keypoints of every picture, as the estimator does and in jittered crops.

    Raises:
        DataError: As `load_samples`, or a picture is missing or differs in size from the others.
    """
    samples = load_samples(folder)
    predictor = KeypointPredictor(face_mesh_v2(), looks)
    mirror = canonical_face().mirror
    pictures, shape = [], None
    for sample in tqdm(samples, desc='pictures', disable=None):
        try:
            image = load_image(sample.path)
        except FileNotFoundError as error:
            raise DataError(str(error)) from None
        shape = shape or image.shape
        if image.shape != shape:
            raise DataError(f'{sample.path}: size {image.shape[:2]}, of the others {shape[:2]}')
        pictures.append(_measure(image, sample, predictor, jitters, mirror))
    assert shape is not None
    return Export(
        names=np.array([s.name for s in samples]),
        image_size=np.array([shape[1], shape[0]]),
        pitch_yaw_roll_deg=np.stack([s.pitch_yaw_roll_deg for s in samples]),
        boxes_xyxy=np.stack([s.box_xyxy for s in samples]),
        **{key: np.stack([p[key] for p in pictures]) for key in pictures[0]},
    )


@torch.no_grad()
def _measure(
    image: NDArray[np.uint8],
    sample: Sample,
    predictor: KeypointPredictor,
    jitters: int,
    mirror: Tensor,
) -> dict[str, NDArray[np.float32]]:
    """The fields of `Export` that belong to one picture."""
    camera = photo_camera(image.shape[1], image.shape[0])
    picture = torch.from_numpy(image)
    box = torch.from_numpy(sample.box_xyxy)[None]
    # Without anchors the first look takes the face as upright, and the second one turns the crop.
    faces = Faces(box, torch.ones(1), torch.full((1, 6, 2), torch.nan))
    keypoints = predictor.predict(picture, faces, camera)
    uv = keypoints.uv[:, :_SURFACE_POINTS]
    crop = crops_around_keypoints(
        uv,
        prediction._EYE_RIGHT,
        prediction._EYE_LEFT,
        prediction._FOREHEAD,
        prediction._CHIN,
        camera,
        CROP_SIZE_PX,
        prediction._MARGIN,
    )
    crops = jittered(crop, jitters)
    looks = predictor._look(picture, join(crops, mirrored(crops)), camera)
    arrays = {
        'uv': uv[0],
        'cov_uv': keypoints.cov_uv[0, :_SURFACE_POINTS],
        'presence': keypoints.presence[0],
        'image_px_per_crop_px': crop.image_px_per_crop_px(camera)[0],
        'jitter_uv': looks.uv[:jitters, :_SURFACE_POINTS],
        'jitter_presence': looks.presence[:jitters],
        'mirror_uv': looks.uv[jitters:, mirror],
        'mirror_presence': looks.presence[jitters:],
    }
    return {key: value.numpy().astype(np.float32) for key, value in arrays.items()}


def single(data: Export) -> Keypoints:
    """The keypoints of the estimator's last look."""
    return Keypoints(
        torch.from_numpy(data.uv).double(),
        torch.from_numpy(data.cov_uv).double(),
        torch.from_numpy(data.presence),
    )


def multi_crop(data: Export) -> Keypoints:
    """Mean over all jittered crops."""
    return _combine(single(data), data.jitter_uv, data.jitter_presence)


def multi_crop_mirrored(data: Export) -> Keypoints:
    """As many crops, of which every second pair is seen in the mirror."""
    plain = (np.arange(data.jitter_uv.shape[1]) // 2) % 2 == 0
    return _combine(
        single(data),
        np.where(plain[:, None, None], data.jitter_uv, data.mirror_uv),
        np.where(plain, data.jitter_presence, data.mirror_presence),
    )


def _combine(
    alone: Keypoints, uv_crops: NDArray[np.float32], presence_crops: NDArray[np.float32]
) -> Keypoints:
    """Mean of several crops' keypoints (N, M, K, 2), weighted by their presences (N, M).

    What the crops disagree on, averaged over the keypoints, is added to the covariance of each:
    the keypoints of a difficult face err together. At least two looks must have seen a face.
    """
    uv = torch.from_numpy(uv_crops).double()
    presence = torch.from_numpy(presence_crops)
    weight = (presence + 1e-3)[..., None, None].double()
    mean = (weight * uv).sum(1) / weight.sum(1)
    off = uv - mean[:, None]
    spread = torch.einsum('nmki,nmkj->nij', off, off) / (uv.shape[2] * (uv.shape[1] - 1))
    looks = torch.cat([alone.presence[:, None], presence], 1)
    return Keypoints(mean, alone.cov_uv + spread[:, None], looks.topk(2).values[:, 1])


_EVERY_KEYPOINT = PoseOptions(visibility=False)


@dataclass(frozen=True)
class Configuration:
    """How a row of the ablation gets from keypoints to poses."""

    keypoints: Callable[[Export], Keypoints] = single
    model: Callable[[], FaceModel] = canonical_face
    options: PoseOptions = _EVERY_KEYPOINT


def identity_face() -> FaceModel:
    """The deformable face without its expressions."""
    return deformable_face().keep_modes('size', 'identity')


CONFIGURATIONS = {
    'rigid': Configuration(),
    'visibility': Configuration(options=PoseOptions()),
    'identity': Configuration(model=identity_face),
    'shape': Configuration(model=deformable_face),
    'shape, visibility': Configuration(model=deformable_face, options=PoseOptions()),
    'multi-crop': Configuration(multi_crop),
    'mirrored multi-crop': Configuration(multi_crop_mirrored),
    'identity, mirrored multi-crop': Configuration(multi_crop_mirrored, identity_face),
    'all': Configuration(multi_crop_mirrored, deformable_face, PoseOptions()),
}


def score(data: Export, configuration: Configuration) -> list[metrics.Row]:
    """Fit every face and compare it with its label."""
    camera = photo_camera(*(int(side) for side in data.image_size))
    keypoints = configuration.keypoints(data)
    poses = fit_pose(keypoints, configuration.model(), camera, configuration.options).poses
    answered = (keypoints.presence >= MIN_PRESENCE) & ~poses.failed
    return metrics.score(
        poses.T_cam_head[:, :3, :3].numpy(),
        poses.covariance[:, 3:, 3:].numpy(),
        answered.numpy(),
        data.pitch_yaw_roll_deg,
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest='step', required=True)
    step = steps.add_parser('export', help='measure the keypoints of every picture')
    step.add_argument('--data', type=Path, required=True, help='folder of pictures and labels')
    step.add_argument('--out', type=Path, required=True, help='.npz file to write')
    step.add_argument('--jitters', type=int, default=8, help='crops per picture, at least 2')
    step = steps.add_parser('score', help='fit poses and print the errors')
    step.add_argument('file', type=Path, help='.npz file of export')
    step.add_argument('--table', action='store_true', help='print Markdown, a line per bin')
    options = parser.parse_args(args)
    if options.step == 'export' and options.jitters < 2:
        parser.error(f'--jitters must be at least 2, got {options.jitters}')
    try:
        if options.step == 'export':
            export(options.data, options.jitters).save(options.out)
            return
        data = Export.load(options.file)
    except DataError as error:
        parser.error(str(error))
    rows = {name: score(data, c) for name, c in CONFIGURATIONS.items()}
    print(metrics.markdown(rows) if options.table else metrics.text(rows))


if __name__ == '__main__':
    main()
