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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_ros.evaluation import metrics
from face_pose_ros.evaluation.portraits import load_image
from face_pose_ros.evaluation.virtual_camera import photo_camera
from face_pose_ros.keypoints.face_mesh import face_mesh_v2
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.pose.face_model import FaceModel, canonical_face, deformable_face
from face_pose_ros.pose.refine import PoseOptions, fit_pose
from face_pose_ros.types import Faces, Keypoints

_LOOKS = 2
MIN_PRESENCE = 0.5  # below it a face counts as not answered


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
    """Keypoints of all pictures; K is their number."""

    names: NDArray[np.str_]  # (N,)
    image_size: NDArray[np.int64]  # (2,) width, height [px], one for all
    pitch_yaw_roll_deg: NDArray[np.float64]  # (N, 3) labels
    boxes_xyxy: NDArray[np.float64]  # (N, 4) px
    uv: NDArray[np.float32]  # (N, K, 2) px, in one look
    cov_uv: NDArray[np.float32]  # (N, K, 2, 2) px^2
    presence: NDArray[np.float32]  # (N,)
    average_uv: NDArray[np.float32]  # the same of jittered crops
    average_cov_uv: NDArray[np.float32]
    average_presence: NDArray[np.float32]

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


def export(folder: Path, jitters: int) -> Export:
    """Measure the keypoints of every picture, in one look and in jittered crops.

    Raises:
        DataError: As `load_samples`, or a picture is missing or differs in size from the others.
    """
    samples = load_samples(folder)
    predictor = KeypointPredictor(face_mesh_v2(), _LOOKS)
    pictures, shape = [], None
    for sample in tqdm(samples, desc='pictures', disable=None):
        try:
            image = load_image(sample.path)
        except FileNotFoundError as error:
            raise DataError(str(error)) from None
        shape = shape or image.shape
        if image.shape != shape:
            raise DataError(f'{sample.path}: size {image.shape[:2]}, of the others {shape[:2]}')
        pictures.append(_measure(image, sample, predictor, jitters))
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
    image: NDArray[np.uint8], sample: Sample, predictor: KeypointPredictor, jitters: int
) -> dict[str, NDArray[np.float32]]:
    """The fields of `Export` that belong to one picture."""
    camera = photo_camera(image.shape[1], image.shape[0])
    picture = torch.from_numpy(image)
    box = torch.from_numpy(sample.box_xyxy)[None]
    # Without anchors the first look takes the face as upright, and the second one turns the crop.
    faces = Faces(box, torch.ones(1), torch.full((1, 6, 2), torch.nan))
    look = predictor.predict(picture, faces, camera)
    average, _ = predictor.average(picture, look, camera, jitters)
    return {
        prefix + name: value[0].numpy().astype(np.float32)
        for prefix, keypoints in (('', look), ('average_', average))
        for name, value in vars(keypoints).items()
    }


def single(data: Export) -> Keypoints:
    """The keypoints of one look."""
    return _keypoints(data.uv, data.cov_uv, data.presence)


def multi_crop(data: Export) -> Keypoints:
    """The mean of jittered crops."""
    return _keypoints(data.average_uv, data.average_cov_uv, data.average_presence)


def _keypoints(*arrays: NDArray[np.float32]) -> Keypoints:
    return Keypoints(*(torch.from_numpy(array).double() for array in arrays))


_EVERY_KEYPOINT = PoseOptions(visibility=False)


@dataclass(frozen=True)
class Configuration:
    """How a row of the ablation gets from keypoints to poses."""

    keypoints: Callable[[Export], Keypoints] = single
    model: Callable[[], FaceModel] = canonical_face
    options: PoseOptions = _EVERY_KEYPOINT


def identity_face() -> FaceModel:
    """The deformable face without its expressions."""
    return deformable_face().keep('size', 'identity')


CONFIGURATIONS = {
    'rigid': Configuration(),
    'visibility': Configuration(options=PoseOptions()),
    'identity': Configuration(model=identity_face),
    'shape': Configuration(model=deformable_face),
    'shape, visibility (default)': Configuration(model=deformable_face, options=PoseOptions()),
    'rigid, multi-crop': Configuration(multi_crop),
    'identity, multi-crop': Configuration(multi_crop, identity_face),
    'shape, multi-crop': Configuration(multi_crop, deformable_face),
    'all': Configuration(multi_crop, deformable_face, PoseOptions()),
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
    step.add_argument('--jitters', type=int, default=8, help='crops per picture')
    step = steps.add_parser('score', help='fit poses and print the errors')
    step.add_argument('file', type=Path, help='.npz file of export')
    step.add_argument('--table', action='store_true', help='print Markdown, a line per bin')
    options = parser.parse_args(args)
    if options.step == 'export' and options.jitters < 1:
        parser.error(f'--jitters must be at least 1, got {options.jitters}')
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
