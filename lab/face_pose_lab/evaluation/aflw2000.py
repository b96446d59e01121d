# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The AFLW2000-3D protocol: keypoints once, then poses of any configuration from the same ones.

    python -m face_pose_lab.evaluation.aflw2000 export --data DIR --out keypoints.npz
    python -m face_pose_lab.evaluation.aflw2000 score keypoints.npz

Box: the bounds of the 68 labelled points, without a margin of its own. Camera: f = width + height,
principal point at the centre, no distortion. Pictures with an angle beyond 99 deg are left out.
DIR is as `aflw2000_samples` says. The pictures are for research only and no part of this package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

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
from face_pose_ros.keypoints.hourglass import packaged_calibration
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.keypoints.semantic_predictor import SemanticPredictor, packaged_predictor
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import (
    FaceModel,
    canonical_face,
    deformable_face,
    semantic_head,
)
from face_pose_ros.pose.fusion import fit_readings
from face_pose_ros.results import Faces, Keypoints, Readings
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

_LOOKS = 2
_BROWS_RISE, _HEAD_MARGIN = 0.12, 2.5
MIN_PRESENCE = 0.5  # below it a face counts as not answered


@dataclass(frozen=True)
class Export(ExportFile):
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
    head_uv: NDArray[np.float32]  # (N, 86, 2) px, of the hourglass
    head_cov_uv: NDArray[np.float32]
    head_presence: NDArray[np.float32]


def export(folder: Path, jitters: int) -> Export:
    """Measure the keypoints of every picture, in one look and in jittered crops.

    Raises:
        DataError: As `load_samples`, or a picture is missing or differs in size from the others.
    """
    samples = load_samples(folder)
    networks = load_networks('cpu')
    mesh = KeypointPredictor(networks.keypoints.on_crops, _LOOKS)
    head = packaged_predictor(networks.hourglass, _LOOKS)
    pictures, shape = [], None
    for sample in tqdm(samples, desc='pictures', disable=None):
        try:
            image = load_image(sample.path)
        except FileNotFoundError as error:
            raise DataError(str(error)) from None
        shape = shape or image.shape
        if image.shape != shape:
            raise DataError(f'{sample.path}: size {image.shape[:2]}, of the others {shape[:2]}')
        pictures.append(_measure(image, sample, mesh, head, jitters))
    assert shape is not None
    return Export(
        names=np.array([s.name for s in samples]),
        image_size=np.array([shape[1], shape[0]]),
        pitch_yaw_roll_deg=np.stack([s.pitch_yaw_roll_deg for s in samples]),
        boxes_xyxy=np.stack([s.box_xyxy for s in samples]),
        **{key: np.stack([p[key] for p in pictures]) for key in pictures[0]},
    )


def _measure(
    image: NDArray[np.uint8],
    sample: Sample,
    mesh: KeypointPredictor,
    head: SemanticPredictor,
    jitters: int,
) -> dict[str, NDArray[np.float32]]:
    """The fields of `Export` that belong to one picture."""
    camera = photo_camera(image.shape[1], image.shape[0])
    look = mesh.predict(image, Faces.of_boxes(sample.box_xyxy), camera)
    average, _ = mesh.average(image, look, camera, jitters)
    heads = measured_heads(head, image, sample, camera)
    return {
        prefix + name: value[0].astype(np.float32)
        for prefix, keypoints in (('', look), ('average_', average), ('head_', heads))
        for name, value in vars(keypoints).items()
    }


def measured_heads(
    predictor: SemanticPredictor, image: NDArray[np.uint8], sample: Sample, camera: Camera
) -> Keypoints:
    """Semantic keypoints of the head whose 68 points have these bounds."""
    left, top, right, bottom = sample.box_xyxy
    # The bounds end at the brows: the face reaches further up, and is larger.
    rise = _BROWS_RISE * (bottom - top)
    box_xyxy = np.array([left, top - rise, right, bottom - rise])
    return predictor.predict(image, Faces.of_boxes(box_xyxy), camera, _HEAD_MARGIN)


def single(data: Export) -> Readings:
    """Face Mesh in one look."""
    return Readings(_keypoints(data.uv, data.cov_uv, data.presence), _unasked(data.head_uv))


def multi_crop(data: Export) -> Readings:
    """Face Mesh's mean of jittered crops."""
    mesh = _keypoints(data.average_uv, data.average_cov_uv, data.average_presence)
    return Readings(mesh, _unasked(data.head_uv))


def hourglass(data: Export) -> Readings:
    """The hourglass alone."""
    head = _keypoints(data.head_uv, data.head_cov_uv, data.head_presence)
    return Readings(_unasked(data.uv), head)


def both(data: Export) -> Readings:
    """What the node has by default."""
    return Readings(single(data).mesh, hourglass(data).head)


def both_multi_crop(data: Export) -> Readings:
    """What the node has with jitters."""
    return Readings(multi_crop(data).mesh, hourglass(data).head)


def _keypoints(*arrays: NDArray[np.float32]) -> Keypoints:
    return Keypoints(*(array.astype(np.float64) for array in arrays))


def _unasked(uv: NDArray[np.float32]) -> Keypoints:
    """Of a network that was not asked, but for the shape."""
    count, points, _ = uv.shape
    return Keypoints.unmeasured(count, points)


_EVERY_KEYPOINT = PoseOptions(visibility=False)


@dataclass(frozen=True)
class Configuration:
    """How a row of the ablation gets from keypoints to poses."""

    readings: Callable[[Export], Readings] = single
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
    'shape, visibility (face_mesh)': Configuration(model=deformable_face, options=PoseOptions()),
    'rigid, multi-crop': Configuration(multi_crop),
    'identity, multi-crop': Configuration(multi_crop, identity_face),
    'shape, multi-crop': Configuration(multi_crop, deformable_face),
    'all': Configuration(multi_crop, deformable_face, PoseOptions()),
    'hourglass': Configuration(hourglass, deformable_face, PoseOptions()),
    'auto': Configuration(both, deformable_face, PoseOptions()),
    'auto, multi-crop': Configuration(both_multi_crop, deformable_face, PoseOptions()),
}


class Estimates(NamedTuple):
    """What a configuration says of the N faces."""

    R_cam_head: NDArray[np.float64]  # (N, 3, 3)
    covariance: NDArray[np.float64]  # (N, 3, 3) of the rotation about the camera's axes [rad^2]
    answered: NDArray[np.bool_]  # (N,)


def estimates(data: Export, configuration: Configuration) -> Estimates:
    """Fit every face."""
    camera = photo_camera(*(int(side) for side in data.image_size))
    readings, model = configuration.readings(data), configuration.model()
    poses = fit_readings(
        readings,
        model,
        semantic_head(),
        camera,
        configuration.options,
        packaged_calibration().independent_keypoints,
        MIN_PRESENCE,
    ).poses
    answered = (readings.presence >= MIN_PRESENCE) & ~poses.failed
    return Estimates(poses.T_cam_head[:, :3, :3], poses.covariance[:, 3:, 3:], answered)


def score(data: Export, configuration: Configuration) -> list[metrics.Row]:
    """Fit every face and compare it with its label."""
    return metrics.score(*estimates(data, configuration), data.pitch_yaw_roll_deg)


# Configurations beside each other in the plot.
_PLOTTED = ('shape, visibility (face_mesh)', 'hourglass', 'auto')
_PLOT_BINS_DEG = np.arange(0, 100, 10)


def plot(data: Export, path: Path) -> None:
    """Draw the error of every face over its |yaw|, and the means of bins of 10 deg."""
    yaw = np.abs(data.pitch_yaw_roll_deg[:, 1])
    of_bin = np.digitize(yaw, _PLOT_BINS_DEG)
    figure = Figure(figsize=(12, 4), layout='constrained')
    axes = figure.subplots(1, len(_PLOTTED), sharey=True)
    for axis, name in zip(axes, _PLOTTED, strict=True):
        found = estimates(data, CONFIGURATIONS[name])
        error = metrics.aligned_errors_deg(
            found.R_cam_head, found.answered, data.pitch_yaw_roll_deg
        )
        axis.plot(yaw, error, '.', alpha=0.4)
        bins = [b for b in np.unique(of_bin) if found.answered[of_bin == b].any()]
        means = [np.nanmean(error[of_bin == b]) for b in bins]
        axis.plot(_PLOT_BINS_DEG[np.array(bins) - 1] + 5, means, 'k-o')
        axis.set_title(f'{name}: {found.answered.mean():.0%} answered')
        axis.set_xlabel('|yaw| of the label [deg]')
    axes[0].set_ylabel('geodesic error, aligned [deg]')
    axes[0].set_ylim(0, 60)
    figure.savefig(path, dpi=110)


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
    step.add_argument('--json', type=Path, help='file to write the figures to')
    step.add_argument('--plot', type=Path, help='picture to draw: errors over yaw')
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
    if options.json:
        figures = {name: [asdict(row) for row in of_one] for name, of_one in rows.items()}
        options.json.write_text(json.dumps(figures, indent=1))
    if options.plot:
        plot(data, options.plot)


if __name__ == '__main__':
    main()
