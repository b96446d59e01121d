# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The BIWI protocol: poses of all frames once, then their errors.

    python -m face_pose_lab.evaluation.biwi export --data hpdb --out poses.npz
    python -m face_pose_lab.evaluation.biwi score poses.npz
    python -m face_pose_lab.evaluation.biwi surface --data hpdb

The Biwi Kinect Head Pose Database (Fanelli et al., "Random Forests for Real Time 3D Face
Analysis", IJCV 2013) has 24 sequences NN of frame_*_rgb.png with frame_*_pose.txt and rgb.cal, and
of frame_*_depth.bin with depth.cal, which `export --depth` takes too. It is for research only and
no part of this package.

All frames, our own detector, its face of highest score, the calibrated colour camera. Labels are
transformed from the depth camera to the colour camera (about a degree; most published figures omit
it). The angles are those of Ruiz et al., "Fine-Grained Head Pose Estimation
Without Keypoints" (2018): the rotation's in `metrics`. BIWI's head has its origin inside the head:
positions are compared after one constant offset in the head's frame. `surface` needs no offset: it
compares our fitted face, with the depth image and without it, with the scan NN.obj of the person's
head at the label.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.export_file import ExportFile
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.results import FacePose
from face_pose_ros.samples import load_image

Array = NDArray[np.float64]

_MIN_COS = 0.5  # of a compared surface to the ray
_SCAN_STEP_RAD = 0.004  # as far apart are a scan's vertices as seen from the camera, or less


@dataclass(frozen=True)
class Frame:
    """A labelled picture of one head."""

    path: Path
    camera: Camera  # the colour camera
    T_cam_head: Array  # (4, 4) m, in it; BIWI's head axes point right, down and into the head
    T_cam_depth: Array  # (4, 4) m, the depth camera in it

    def image(self) -> NDArray[np.uint8]:
        """Read the picture, (H, W, 3) RGB.

        Raises:
            DataError: It can't be read, or is not as large as the camera's.
        """
        try:
            image = load_image(self.path)
        except FileNotFoundError as error:
            raise DataError(str(error)) from None
        expected = self.camera.height, self.camera.width
        if image.shape[:2] != expected:
            raise DataError(f'{self.path}: size {image.shape[:2]}, rgb.cal says {expected}')
        return image

    def depth(self) -> DepthImage:
        """Read the depth image.

        Raises:
            DataError: It or its calibration can't be read, or they do not belong together.
        """
        camera, _ = _calibration(self.path.with_name('depth.cal'))
        path = self.path.with_name(self.path.name.replace('_rgb.png', '_depth.bin'))
        try:
            return DepthImage(_runs(path), camera, self.T_cam_depth)
        except ValueError as error:
            raise DataError(f'{path}: {error}') from None

    def scan(self) -> Array:
        """Vertices (V, 3) m of the person's scanned head at the label, in the colour camera.

        Raises:
            DataError: There is no such file, or it is damaged.
        """
        path = self.path.parent.with_suffix('.obj')
        try:
            lines = [line.split() for line in path.read_text().splitlines()]
            xyz_mm = np.array([line[1:4] for line in lines if line[:1] == ['v']], np.float64)
            return rotations.apply(self.T_cam_head, 1e-3 * xyz_mm)
        except (OSError, ValueError) as error:
            raise DataError(f'{path}: {error}') from error


def _runs(path: Path) -> NDArray[np.uint16]:
    """Depth (H, W) [mm]: its width and height, then runs of zeros and of depths in turn."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(str(error)) from None
    width, height = np.frombuffer(data, '<i4', 2)
    z, place, filled = np.zeros(width * height, np.uint16), 8, 0
    while filled < z.size:
        empty, full = np.frombuffer(data, '<i4', 2, place)
        filled += int(empty)
        z[filled : filled + full] = np.frombuffer(data, '<i2', full, place + 8)
        filled, place = filled + int(full), place + 8 + 2 * int(full)
    return z.reshape(height, width)


def read_frames(folder: Path) -> Iterator[Frame]:
    """Frames of all sequences, in order.

    Raises:
        DataError: There is none, or a file is damaged.
    """
    paths = sorted(folder.glob('*/frame_*_rgb.png'))
    if not paths:
        raise DataError(f'{folder}: no NN/frame_*_rgb.png')
    for path in paths:
        camera, T_rgb_depth = _calibration(path.with_name('rgb.cal'))
        pose = _numbers(path.with_name(path.name.replace('_rgb.png', '_pose.txt')), 12)
        yield Frame(path, camera, T_rgb_depth @ _transform(pose), T_rgb_depth)


def _calibration(path: Path) -> tuple[Camera, Array]:
    """A camera, and the transform from the depth camera to it (4, 4) [m]."""
    values = _numbers(path, 9 + 4 + 9 + 3 + 2)
    width, height = (int(v) for v in values[25:27])
    try:
        camera = Camera.from_K(values[:9], width, height, values[9:13].tolist())
    except ValueError as error:
        raise DataError(f'{path}: {error}') from error
    return camera, _transform(values[13:25])


def _transform(values: Array) -> Array:
    """T (4, 4) [m] of nine numbers of a rotation and three of a translation [mm]."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = values[:9].reshape(3, 3), 1e-3 * values[9:12]
    return T


def _numbers(path: Path, count: int) -> Array:
    try:
        values = np.array(path.read_text().split(), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: {error}') from error
    if len(values) < count:
        raise DataError(f'{path}: {len(values)} numbers, {count} expected')
    return values


@dataclass(frozen=True)
class Export(ExportFile):
    """Labels and estimates of N frames, in the colour camera."""

    names: NDArray[np.str_]  # (N,) NN/frame_00003
    T_cam_label: Array  # (N, 4, 4) m
    T_cam_head: Array  # (N, 4, 4) m, in our head frame; NaN: no face found
    covariance: Array  # (N, 6, 6), see `FacePose`


def export(folder: Path, estimator: FacePoseEstimator, with_depth: bool = False) -> Export:
    """Estimate the pose of the surest face of every frame, with its depth image or without.

    Raises:
        DataError: As `read_frames`.
    """
    names, labels, poses, covariances = [], [], [], []
    for frame in tqdm(read_frames(folder), desc='frames', disable=None):
        depth = frame.depth() if with_depth else None
        faces = estimator.estimate(frame.image(), frame.camera, depth=depth)
        surest = max(faces, key=lambda face: face.score, default=None)
        names.append(f'{frame.path.parent.name}/{frame.path.stem.removesuffix("_rgb")}')
        labels.append(frame.T_cam_head)
        poses.append(surest.T_cam_head if surest else np.full((4, 4), np.nan))
        covariances.append(surest.covariance if surest else np.full((6, 6), np.nan))
    return Export(np.array(names), np.stack(labels), np.stack(poses), np.stack(covariances))


@dataclass(frozen=True)
class PositionErrors:
    """Mean errors of the positions [mm] along the camera's axes, and of their distance."""

    x_mm: float
    y_mm: float
    z_mm: float
    distance_mm: float


def score(data: Export) -> tuple[list[metrics.Row], PositionErrors | None]:
    """Errors of the rotations by |yaw|, and of the positions; None where nothing was found."""
    found = ~np.isnan(data.T_cam_head).any((1, 2))
    rows = metrics.score(
        data.T_cam_head[:, :3, :3],
        data.covariance[:, 3:, 3:],
        found,
        metrics.label_from_rotation(data.T_cam_label[:, :3, :3]),
    )
    if not found.any():
        return rows, None
    return rows, _position_errors(data.T_cam_head[found], data.T_cam_label[found])


def _position_errors(T: Array, T_label: Array) -> PositionErrors:
    """After the offset in our head frame is removed that fits best, by least squares."""
    R, missing = T[:, :3, :3], T_label[:, :3, 3] - T[:, :3, 3]
    offset = np.einsum('nji,nj->ni', R, missing).mean(0)
    error = 1000 * (missing - R @ offset)
    x, y, z = np.abs(error).mean(0)
    return PositionErrors(
        float(x), float(y), float(z), float(np.linalg.norm(error, axis=1).mean())
    )


def surface_gap_mm(face: FacePose, scan: Array) -> float:
    """How much farther a fitted face is than a scan (V, 3) m in the same directions: median."""
    model = deformable_face()
    xyz = rotations.apply(face.T_cam_head, model.points(face.shape[None])[0])
    normals = model.normals @ face.T_cam_head[:3, :3].T
    distance = np.linalg.norm(xyz, axis=1)
    rays = xyz / distance[:, None]
    distance_scan = np.linalg.norm(scan, axis=1)
    tree = cKDTree(scan / distance_scan[:, None])
    gaps = []
    for k in np.flatnonzero((normals * rays).sum(1) < -_MIN_COS):
        behind = tree.query_ball_point(rays[k], _SCAN_STEP_RAD)
        if behind:
            gaps.append(distance[k] - distance_scan[behind].min())
    return 1e3 * float(np.median(gaps))


def score_surface(folder: Path, estimator: FacePoseEstimator) -> Iterator[str]:
    """A line for each frame: rotation to the label and gap to the scan, without and with depth."""
    for frame in read_frames(folder):
        texts = [f'{frame.path.parent.name}/{frame.path.stem.removesuffix("_rgb")}:']
        scan = frame.scan()
        for name, depth in (('no depth', None), ('depth', frame.depth())):
            faces = estimator.estimate(frame.image(), frame.camera, depth=depth)
            surest = max(faces, key=lambda face: face.score, default=None)
            if surest is None:
                texts.append(f'{name}: not found')
                continue
            R_label = frame.T_cam_head[:3, :3] @ metrics.R_HEAD_LABEL.T
            turn = rotations.log(surest.T_cam_head[:3, :3] @ R_label.T)
            texts.append(
                f'{name}: {1e3 * surest.distance:.0f} mm away, sd '
                f'{1e3 * surest.sigma[:3].max():.1f} mm; gap {surface_gap_mm(surest, scan):+.1f} '
                f'mm; rotation {np.rad2deg(np.linalg.norm(turn)):.1f} deg.'
            )
        yield ' '.join(texts)


def main(args: Sequence[str] | None = None) -> None:
    """Run a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest='step', required=True)
    step = steps.add_parser('export', help='estimate the pose in every frame')
    step.add_argument('--data', type=Path, required=True, help='folder of the sequences')
    step.add_argument('--out', type=Path, required=True, help='.npz file to write')
    step.add_argument('--depth', action='store_true', help='also take the depth images')
    step.add_argument('--device', default='cpu')
    step = steps.add_parser('score', help='print the errors')
    step.add_argument('file', type=Path, help='.npz file of export')
    step.add_argument('--json', type=Path, help='file to write the figures to')
    step = steps.add_parser('surface', help='compare fitted faces with scans at the labels')
    step.add_argument('--data', type=Path, required=True, help='folder of sequences and scans')
    step.add_argument('--device', default='cpu')
    options = parser.parse_args(args)
    try:
        if options.step == 'surface':
            for line in score_surface(options.data, FacePoseEstimator(options.device)):
                print(line)
            return
        if options.step == 'export':
            estimator = FacePoseEstimator(options.device)
            export(options.data, estimator, options.depth).save(options.out)
            return
        rows, positions = score(Export.load(options.file))
    except DataError as error:
        parser.error(str(error))
    print(metrics.text({'BIWI': rows}))
    if positions:
        print(
            'position, one offset removed [mm]: '
            + ', '.join(f'{k.removesuffix("_mm")} {v:.1f}' for k, v in asdict(positions).items())
        )
    if options.json:
        figures = {
            'rotation': [asdict(r) for r in rows],
            'position': positions and asdict(positions),
        }
        options.json.write_text(json.dumps(figures, indent=1) + '\n')


if __name__ == '__main__':
    main()
