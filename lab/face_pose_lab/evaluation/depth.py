# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered heads with a depth image: errors with it, without it, and after it has gone.

    python -m face_pose_lab.evaluation.depth render --facekit ict_facekit.npz --out scenes
    python -m face_pose_lab.evaluation.depth render --assets ASSETS --out dressed
    python -m face_pose_lab.evaluation.depth score scenes --json depth.json --figure depth.png

`render` writes pictures of single heads and of heads that move, their true depth and their truth:
of ICT-FaceKit, or dressed (see `depth_dressed`).
`score` shows them to the whole estimator, with depth images of `synthetic.depth_camera`. A child's
head is an adult's with pupils 50 to 56 mm apart: as much nearer it gives the same picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.depth_scenes import (
    Scene,
    read_scenes,
    render,
)
from face_pose_lab.evaluation.pose_errors import HEADING, PoseErrors, pose_errors, table_row
from face_pose_lab.synthetic.depth_camera import ActiveStereo, cover_face
from face_pose_lab.synthetic.ict_facekit import IctFaceKit
from face_pose_lab.synthetic.sampling import HeadRange
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.options import EstimatorOptions
from face_pose_ros.results import FacePose

Array = NDArray[np.float64]
Measure = Callable[[Scene, NDArray[np.float32], np.random.Generator], NDArray[np.uint16] | None]

_COVERED = 0.3
_CHILD_PUPILS_MM = (50.0, 56.0)
_DISTANCE_BINS_M = ((0.5, 0.8), (0.8, 1.2), (1.2, 1.9), (1.9, 3.0))
_WITH_DEPTH = 4  # of the images of a moving head, the first
_INTERVAL_S, _LATE_INTERVAL_S = 0.3, 2.0  # between images with a depth, and after them


@dataclass(frozen=True)
class Estimates:
    """Estimates for N heads; NaN where no face was found."""

    T_true: Array  # (N, 4, 4) m
    T_cam_head: Array  # (N, 4, 4) m
    covariance: Array  # (N, 6, 6)

    @classmethod
    def of(cls, found: Sequence[tuple[Array, FacePose | None]]) -> Estimates:
        """From pairs of a true pose and the face that was found, or None."""
        nothing = np.full((4, 4), np.nan), np.full((6, 6), np.nan)
        answers = [(f.T_cam_head, f.covariance) if f else nothing for _, f in found]
        T, covariance = (np.array(values) for values in zip(*answers, strict=True))
        return cls(np.array([T for T, _ in found]), T, covariance)

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,)."""
        return ~np.isnan(self.T_cam_head).any((1, 2))

    def errors(self, mask: NDArray[np.bool_] | None = None) -> PoseErrors:
        """Errors of the found heads, or of those in a mask (N,)."""
        rows = self.found if mask is None else self.found & mask
        return pose_errors(self.T_cam_head[rows], self.covariance[rows], self.T_true[rows])

    @property
    def distance(self) -> Array:
        """(N,) m, true."""
        return np.asarray(np.linalg.norm(self.T_true[:, :3, 3], axis=-1))


def as_measured(scene: Scene, z: NDArray[np.float32], rng: np.random.Generator) -> NDArray:
    """Depth image of an active stereo camera."""
    return ActiveStereo().measure(z, rng)


def as_covered(scene: Scene, z: NDArray[np.float32], rng: np.random.Generator) -> NDArray:
    """The same, with a share of the face's pixels covered by an object."""
    left, top, right, bottom = np.round(scene.box_xyxy).astype(int)
    skin = np.zeros(z.shape, bool)
    skin[max(top, 0) : bottom, max(left, 0) : right] = True
    box = np.array(scene.box_xyxy)
    return cover_face(ActiveStereo().measure(z, rng), box, skin & (z > 0), _COVERED, rng)


def score_single(
    folder: Path,
    scenes: Sequence[Scene],
    estimator: FacePoseEstimator,
    measure: Measure,
    child: bool = False,
) -> Estimates:
    """Estimate single heads.

    Args:
        folder: Of the scenes.
        scenes: N single heads.
        estimator: What is measured.
        measure: Makes a depth image of the true depth, or None.
        child: Whether the heads are scaled to a child's.
    """
    found = []
    for index, scene in enumerate(tqdm(scenes, disable=None)):
        rng = np.random.default_rng([index, 3])
        rgb, z = scene.read(folder)
        scale = rng.uniform(*_CHILD_PUPILS_MM) / scene.pupils_mm if child else 1.0
        T = np.array(scene.T_cam_head)
        T[:3, 3] *= scale
        camera = Camera.from_K(**scene.camera)
        z_mm = measure(scene, np.float32(scale) * z, rng)
        depth = None if z_mm is None else DepthImage(z_mm, camera)
        faces = estimator.estimate(rgb, camera, [scene.box_xyxy], depth)
        found.append((T, faces[0] if faces else None))
    return Estimates.of(found)


def score_moving(
    folder: Path, scenes: Sequence[Scene], estimator: FacePoseEstimator, with_depth: bool
) -> Estimates:
    """The last image of each person, 10 s after the last depth image."""
    found = []
    for person in tqdm(sorted({scene.person for scene in scenes}), disable=None):
        rng, stamp_s = np.random.default_rng([person, 4]), 0.0
        estimator.tracker.reset()
        for step, scene in enumerate(s for s in scenes if s.person == person):
            rgb, z = scene.read(folder)
            camera = Camera.from_K(**scene.camera)
            depth = None
            if with_depth and step < _WITH_DEPTH:
                depth = DepthImage(as_measured(scene, z, rng), camera)
            stamp_s += _INTERVAL_S if step < _WITH_DEPTH else _LATE_INTERVAL_S
            faces = estimator.track(rgb, camera, stamp_s, depth)
        found.append((np.array(scene.T_cam_head), faces[0] if faces else None))
    return Estimates.of(found)


def draw(results: dict[str, Estimates], path: Path) -> None:
    """Depth error over distance, with and without depth."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, who in zip(axes, ('adults', 'children'), strict=True):
        for name, colour in ((f'{who}, no depth', 'tab:orange'), (who, 'tab:blue')):
            estimates = results[name]
            errors = estimates.errors()
            label = 'without depth' if 'no depth' in name else 'with depth'
            distance = estimates.distance[estimates.found]
            axis.plot(distance, -errors.depth_percent, '.', color=colour, ms=4, label=label)
        axis.axhline(0, color='0.6', lw=0.8)
        axis.set_xscale('log')
        axis.set_xticks([0.5, 1, 2, 3], ['0.5', '1', '2', '3'])
        axis.set_xticks([], minor=True)
        axis.set_xlabel('distance [m]')
        axis.set_title(who)
    axes[0].set_ylabel('error of the distance [%]')
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def figures(estimates: Estimates) -> dict[str, float]:
    """One row of the table, for a file."""
    e = estimates.errors()
    return {
        'heads': len(estimates.T_true),
        'found': int(estimates.found.sum()),
        'distance_bias_percent': -float(e.depth_percent.mean()),
        'distance_rms_percent': float(np.sqrt((e.depth_percent**2).mean())),
        'distance_median_percent': float(np.median(np.abs(e.depth_percent))),
        'distance_sigma_percent': float(np.sqrt((e.depth_sigma_percent**2).mean())),
        'rotation_rms_deg': float(np.sqrt((e.rotation_deg**2).mean())),
        'pitch_rms_deg': float(np.sqrt((pitch_errors_deg(estimates) ** 2).mean())),
        'nees': float(e.nees.mean()),
    }


def pitch_errors_deg(estimates: Estimates) -> Array:
    """Errors (M,) of the rotation about the head's own y axis, of the heads that were found."""
    rows = estimates.found
    R, R_true = estimates.T_cam_head[rows, :3, :3], estimates.T_true[rows, :3, :3]
    turn = Rotation.from_matrix(R.transpose(0, 2, 1) @ R_true).as_rotvec()
    return np.asarray(np.rad2deg(turn[:, 1]))


def main(args: Sequence[str] | None = None) -> None:
    """Run a step."""
    limits = HeadRange()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest='step', required=True)
    step = steps.add_parser('render', help='write pictures, true depth and truth')
    source = step.add_mutually_exclusive_group(required=True)
    source.add_argument('--facekit', type=Path, help='ICT-FaceKit as .npz')
    source.add_argument('--assets', type=Path, help='assets of the training: dressed heads')
    step.add_argument('--hdri', type=Path, help='folder of .hdr maps for light and background')
    step.add_argument('--out', type=Path, required=True, help='folder to write')
    step.add_argument('--heads', type=int, default=100, help='single ones')
    step.add_argument('--people', type=int, default=12, help='number of moving people')
    step.add_argument('--seed', type=int, default=0)
    step.add_argument('--size', type=int, nargs=2, default=(640, 480), help='of pictures [px]')
    step = steps.add_parser('score', help='print the errors')
    step.add_argument('folder', type=Path, help='of render')
    step.add_argument('--json', type=Path, help='file to write the figures to')
    step.add_argument('--figure', type=Path, help='picture of the error over distance to write')
    options = parser.parse_args(args)
    if options.step == 'render':
        width, height = options.size
        limits = replace(limits, width=width, height=height)
        numbers = options.heads, options.people
        if options.facekit:
            facekit = IctFaceKit(options.facekit)
            render(facekit, options.hdri, options.out, limits, *numbers, options.seed)
            return
        # These need OpenGL.
        from face_pose_lab.evaluation.depth_dressed import render_dressed
        from face_pose_lab.training.heads.assets import Assets, MissingAssetError, Split
        from face_pose_lab.training.heads.studio import Models, Studio

        try:
            models = Models.load(Assets(options.assets, Split.TEST))
            render_dressed(Studio(models, options.seed), options.out, limits, *numbers)
        except (MissingAssetError, RuntimeError) as error:
            parser.error(str(error))
        return
    try:
        scenes = read_scenes(options.folder)
        results = score(options.folder, scenes)
    except DataError as error:
        parser.error(str(error))
    print(HEADING.replace('|yaw|', '     ').replace('[deg]    ', '         ', 1))
    for name, estimates in results.items():
        print(name)
        print(table_row('', len(estimates.T_true), estimates.errors()))
        row = figures(estimates)
        print(
            f'{"":9}pitch rms {row["pitch_rms_deg"]:.2f} deg; '
            f'distance, median {row["distance_median_percent"]:.2f} %'
        )
    print('\nerror of the distance with depth [%], rms, by distance')
    for low, high in _DISTANCE_BINS_M:
        adults = results['adults']
        near = (adults.distance >= low) & (adults.distance < high)
        rms = np.sqrt((adults.errors(near).depth_percent ** 2).mean())
        print(f'{low} to {high} m: {rms:.2f} of {near.sum()} heads')
    if options.json:
        rows = {name: figures(estimates) for name, estimates in results.items()}
        options.json.write_text(json.dumps(rows, indent=1) + '\n')
    if options.figure:
        draw(results, options.figure)


def score(folder: Path, scenes: Sequence[Scene]) -> dict[str, Estimates]:
    """Every row of the table."""
    single = [scene for scene in scenes if scene.person < 0]
    moving = [scene for scene in scenes if scene.person >= 0]

    def nothing(*_: object) -> None:
        return None

    # Moving people have an image every two seconds.
    tracking = replace(EstimatorOptions().tracking, lost_after_s=3.0)
    estimator = FacePoseEstimator('cpu', EstimatorOptions(tracking=tracking))
    results = {
        'adults, no depth': score_single(folder, single, estimator, nothing),
        'adults': score_single(folder, single, estimator, as_measured),
        'adults, 30 % covered': score_single(folder, single, estimator, as_covered),
        'children, no depth': score_single(folder, single, estimator, nothing, child=True),
        'children': score_single(folder, single, estimator, as_measured, child=True),
    }
    if moving:
        results['10 s later, never a depth'] = score_moving(folder, moving, estimator, False)
        results['10 s after the depth'] = score_moving(folder, moving, estimator, True)
    return results


if __name__ == '__main__':
    main()
