# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The AFLW2000-3D protocol: measure keypoints once, then fit poses with several configurations.

    python -m face_pose_lab.evaluation.aflw2000 export --data DIR --out keypoints.npz
    python -m face_pose_lab.evaluation.aflw2000 score keypoints.npz

Box: the bounds of the 68 labelled points. Camera: f = width + height,
principal point at the centre, no distortion. Pictures with an angle beyond 99 deg are left out.
DIR is as `aflw2000_samples` says. The images are for research only and not part of this package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.aflw2000_samples import Sample, load_samples
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.export_file import ExportFile
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.network_output import packaged_calibration
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.options import KeypointOptions, PoseOptions
from face_pose_ros.pose.face_model import FaceModel, semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Faces, Keypoints
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

# The 68 points end at the brows: the face reaches further up by this share of the box, and the
# first crop is larger than around a box of the whole face.
_BROWS_RISE, MARGIN = 0.12, 1.9
MIN_PRESENCE = 0.5  # below it a face counts as not found


@dataclass(frozen=True)
class Export(ExportFile):
    """Keypoints of all pictures; K is their number."""

    names: NDArray[np.str_]  # (N,)
    image_size: NDArray[np.int64]  # (2,) width, height [px], one for all
    pitch_yaw_roll_deg: NDArray[np.float64]  # (N, 3) labels
    boxes_xyxy: NDArray[np.float64]  # (N, 4) px
    uv: NDArray[np.float32]  # (N, 86, 2) px
    cov_uv: NDArray[np.float32]  # (N, 86, 2, 2) px^2
    presence: NDArray[np.float32]  # (N,)
    first_uv: NDArray[np.float32]  # the same of the crop around the box alone
    first_cov_uv: NDArray[np.float32]
    first_presence: NDArray[np.float32]


def export(folder: Path) -> Export:
    """Measure the keypoints of every picture.

    Raises:
        DataError: As `load_samples`, or a picture is missing or differs in size from the others.
    """
    samples = load_samples(folder)
    network, calibration = load_networks('cpu').keypoints, packaged_calibration()
    predictors = {
        '': KeypointPredictor(network, calibration, KeypointOptions().max_crops),
        'first_': KeypointPredictor(network, calibration, 1),
    }
    pictures, shape = [], None
    for sample in tqdm(samples, desc='pictures', disable=None):
        try:
            image = load_image(sample.path)
        except FileNotFoundError as error:
            raise DataError(str(error)) from None
        shape = shape or image.shape
        if image.shape != shape:
            raise DataError(f'{sample.path}: size {image.shape[:2]}, of the others {shape[:2]}')
        pictures.append(_measure(image, sample, predictors))
    assert shape is not None
    return Export(
        names=np.array([s.name for s in samples]),
        image_size=np.array([shape[1], shape[0]]),
        pitch_yaw_roll_deg=np.stack([s.pitch_yaw_roll_deg for s in samples]),
        boxes_xyxy=np.stack([s.box_xyxy for s in samples]),
        **{key: np.stack([p[key] for p in pictures]) for key in pictures[0]},
    )


def _measure(
    image: NDArray[np.uint8], sample: Sample, predictors: Mapping[str, Predictor]
) -> dict[str, NDArray[np.float32]]:
    """The fields of `Export` that belong to one picture."""
    camera = photo_camera(image.shape[1], image.shape[0])
    return {
        prefix + name: value[0].astype(np.float32)
        for prefix, predictor in predictors.items()
        for name, value in vars(measured(predictor, image, sample, camera, MARGIN)).items()
    }


class Predictor(Protocol):
    """Measures the keypoints of faces in boxes, see `KeypointPredictor.predict`."""

    def predict(
        self, image: NDArray[np.uint8], faces: Faces, camera: Camera, margin: float
    ) -> Keypoints:
        """Keypoints of N faces."""


def measured(
    predictor: Predictor,
    image: NDArray[np.uint8],
    sample: Sample,
    camera: Camera,
    margin: float,
) -> Keypoints:
    """Semantic keypoints of the head whose 68 points have these bounds."""
    left, top, right, bottom = sample.box_xyxy
    rise = _BROWS_RISE * (bottom - top)
    box_xyxy = np.array([left, top - rise, right, bottom - rise])
    return predictor.predict(image, Faces.of_boxes(box_xyxy), camera, margin)


def followed(data: Export) -> Keypoints:
    """Keypoints of the last crop, after as many crops as the node makes."""
    return _keypoints(data.uv, data.cov_uv, data.presence)


def first(data: Export) -> Keypoints:
    """Keypoints of the first crop, which follows the box."""
    return _keypoints(data.first_uv, data.first_cov_uv, data.first_presence)


def _keypoints(*arrays: NDArray[np.float32]) -> Keypoints:
    return Keypoints(*(array.astype(np.float64) for array in arrays))


@dataclass(frozen=True)
class Configuration:
    """Keypoints, model and options of one row of the ablation."""

    keypoints: Callable[[Export], Keypoints] = followed
    model: Callable[[], FaceModel] = semantic_head
    options: PoseOptions = field(default_factory=PoseOptions)


def rigid_head() -> FaceModel:
    """The mean head, of any size."""
    return semantic_head().keep('size')


def identity_head() -> FaceModel:
    """The deformable head without its expressions."""
    return semantic_head().keep('size', 'identity')


CONFIGURATIONS = {
    'default': Configuration(),
    'one crop': Configuration(first),
    'without expressions': Configuration(model=identity_head),
    'rigid': Configuration(model=rigid_head),
    'no robust kernel': Configuration(options=PoseOptions(kernel='none')),
}


class Estimates(NamedTuple):
    """Rotations of N faces, estimated by one configuration."""

    R_cam_head: NDArray[np.float64]  # (N, 3, 3)
    covariance: NDArray[np.float64]  # (N, 3, 3) of the rotation about the camera's axes [rad^2]
    found: NDArray[np.bool_]  # (N,)


def estimates(data: Export, configuration: Configuration) -> Estimates:
    """Fit every face."""
    camera = photo_camera(*(int(side) for side in data.image_size))
    keypoints = configuration.keypoints(data)
    poses = fit_pose(keypoints, configuration.model(), camera, configuration.options).poses
    found = (keypoints.presence >= MIN_PRESENCE) & ~poses.failed
    return Estimates(poses.T_cam_head[:, :3, :3], poses.covariance[:, 3:, 3:], found)


def score(data: Export, configuration: Configuration) -> list[metrics.Row]:
    """Fit every face and compare it with its label."""
    return metrics.score(*estimates(data, configuration), data.pitch_yaw_roll_deg)


_PLOT_BINS_DEG = np.arange(0, 100, 10)


def plot(data: Export, path: Path) -> None:
    """Draw the error of every face over its |yaw|, and the means of bins of 10 deg."""
    yaw = np.abs(data.pitch_yaw_roll_deg[:, 1])
    of_bin = np.digitize(yaw, _PLOT_BINS_DEG)
    estimate = estimates(data, CONFIGURATIONS['default'])
    error = metrics.aligned_errors_deg(
        estimate.R_cam_head, estimate.found, data.pitch_yaw_roll_deg
    )
    figure = Figure(figsize=(8, 3.5), layout='constrained')
    axis = figure.subplots()
    axis.plot(yaw, error, '.', alpha=0.4, label='a face')
    bins = [b for b in np.unique(of_bin) if estimate.found[of_bin == b].any()]
    means = [np.nanmean(error[of_bin == b]) for b in bins]
    axis.plot(_PLOT_BINS_DEG[np.array(bins) - 1] + 5, means, 'k-o', label='mean of 10 deg')
    axis.set_xlabel('|yaw| of the label [deg]')
    axis.set_ylabel('aligned rotation error [deg]')
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def main(args: Sequence[str] | None = None) -> None:
    """Run a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest='step', required=True)
    step = steps.add_parser('export', help='measure the keypoints of every picture')
    step.add_argument('--data', type=Path, required=True, help='folder of pictures and labels')
    step.add_argument('--out', type=Path, required=True, help='.npz file to write')
    step = steps.add_parser('score', help='fit poses and print the errors')
    step.add_argument('file', type=Path, help='.npz file of export')
    step.add_argument('--table', action='store_true', help='print Markdown, a line per bin')
    step.add_argument('--json', type=Path, help='file to write the figures to')
    step.add_argument('--plot', type=Path, help='picture to draw: errors over yaw')
    options = parser.parse_args(args)
    try:
        if options.step == 'export':
            export(options.data).save(options.out)
            return
        data = Export.load(options.file)
    except DataError as error:
        parser.error(str(error))
    rows = {name: score(data, c) for name, c in CONFIGURATIONS.items()}
    print(metrics.markdown(rows) if options.table else metrics.text(rows))
    if options.json:
        figures = {name: [asdict(row) for row in of_one] for name, of_one in rows.items()}
        options.json.write_text(json.dumps(figures, indent=1) + '\n')
    if options.plot:
        plot(data, options.plot)


if __name__ == '__main__':
    main()
