# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered heads: errors of the 6-DoF pose in degrees and millimetres against exact truth.

    python -m face_pose_lab.evaluation.rendered_heads --facekit ict_facekit.npz --export heads.npz
    python -m face_pose_lab.evaluation.rendered_heads --facekit ict_facekit.npz --score heads.npz

Heads of ICT-FaceKit (see synthetic/ict_facekit.py for the file) are drawn through random lenses.
The keypoint network and Face Mesh get the box of the projected face; the face model and the
uncertainty of Face Mesh's points are fitted to these (lab/tools). Keypoints and truth go into one
file, from which `--score` fits and scores poses in seconds.

Five tables: keypoint network; Face Mesh, one crop; Face Mesh, mean of jittered crops; true points
with independent normal noise of Face Mesh's stated covariance; the same with known interpupillary
distance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.export_file import ExportFile
from face_pose_lab.evaluation.pose_errors import HEADING, PoseErrors, pose_errors, table_row
from face_pose_lab.face_mesh.network import face_mesh_v2
from face_pose_lab.face_mesh.predictor import FIT as FACE_MESH_FIT
from face_pose_lab.face_mesh.predictor import FaceMeshPredictor
from face_pose_lab.synthetic.ict_facekit import FACE_VERTICES, IctFaceKit, eye_centres
from face_pose_lab.synthetic.sampling import (
    HeadRange,
    face_bounds,
    random_head,
    view_angles_deg,
)
from face_pose_lab.synthetic.scene import Head, HeadRenderer
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.geometry import rotations
from face_pose_ros.keypoints.network_output import packaged_calibration
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.options import KeypointOptions, PoseOptions
from face_pose_ros.pose.face_model import FaceModel, deformable_face, semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Faces, Keypoints
from face_pose_ros.weights import load_weights

MIN_PRESENCE = 0.5  # below it a head counts as not found
_CROPS, _JITTERS = 2, 4
_YAW_BINS_DEG = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 90), (0, 60), (0, 90))


@dataclass(frozen=True)
class RenderedHeads(ExportFile):
    """Keypoints of N heads and the truth; every point of the mesh can be computed again."""

    identity: NDArray[np.float32]  # (N, 100) coefficients of ICT-FaceKit
    expression: NDArray[np.float32]  # (N, 57)
    T_cam_head: NDArray[np.float64]  # (N, 4, 4) m
    K: NDArray[np.float64]  # (N, 3, 3) px
    dist: NDArray[np.float64]  # (N, 14), zero-padded
    distortion_model: NDArray[np.str_]  # (N,)
    size: NDArray[np.int64]  # (N, 2) width, height [px]
    roll_yaw_pitch_deg: NDArray[np.float64]  # (N, 3) as seen along the ray to the head
    head_uv: NDArray[np.float64]  # (N, 86, 2) px, of the keypoint network
    head_cov_uv: NDArray[np.float32]  # (N, 86, 2, 2) px^2
    head_presence: NDArray[np.float32]  # (N,)
    uv: NDArray[np.float64]  # (N, 478, 2) px, of Face Mesh, one crop
    cov_uv: NDArray[np.float32]  # (N, 478, 2, 2) px^2
    presence: NDArray[np.float32]  # (N,)
    average_uv: NDArray[np.float64]  # the same of jittered crops
    average_cov_uv: NDArray[np.float32]
    average_presence: NDArray[np.float32]
    spread: NDArray[np.float64]  # (N,) px^2, see `FaceMeshPredictor.average`
    # (68, 3) m, landmarks of the mean head: reveals files made with another head frame
    mean_landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.presence)

    def head(self, index: int) -> Head:
        """One head."""
        width, height = map(int, self.size[index])
        model = str(self.distortion_model[index])
        # from_K ignores the zeros beyond a model's coefficients.
        camera = Camera.from_K(self.K[index], width, height, self.dist[index].tolist(), model)
        return Head(
            self.identity[index].astype(np.float64),
            self.expression[index].astype(np.float64),
            self.T_cam_head[index],
            camera,
        )

    def keypoints(self, index: int) -> Keypoints:
        """Face Mesh's points of one head, from one crop."""
        return _keypoints(index, self.uv, self.cov_uv, self.presence)

    def head_keypoints(self, index: int) -> Keypoints:
        """The keypoint network's of one head."""
        return _keypoints(index, self.head_uv, self.head_cov_uv, self.head_presence)

    def averaged_keypoints(self, index: int) -> Keypoints:
        """Face Mesh's points, mean of jittered crops."""
        return _keypoints(index, self.average_uv, self.average_cov_uv, self.average_presence)

    def check_frame(self, facekit: IctFaceKit) -> None:
        """Make sure that the truth refers to the head frame of the face kit.

        Raises:
            ValueError: The heads were made with another one.
        """
        if not np.allclose(self.mean_landmarks, _mean_landmarks(facekit), atol=1e-5):
            raise ValueError('the heads were made with another head frame: export them again')


def _keypoints(index: int, *arrays: NDArray) -> Keypoints:
    row = slice(index, index + 1)
    return Keypoints(*(array[row].astype(np.float64) for array in arrays))


def export(
    renderer: HeadRenderer,
    predictor: KeypointPredictor,
    mesh: FaceMeshPredictor,
    limits: HeadRange,
    count: int,
    seed: int,
    pictures: Path | None = None,
) -> RenderedHeads:
    """Draw heads and measure their keypoints; head i depends on (seed, i) only."""
    rows = []
    for i in tqdm(range(count), desc='heads', unit='head'):
        rng = np.random.default_rng([seed, i])
        head = random_head(renderer.facekit, limits, rng)
        image = renderer.render(head, rng)
        if pictures is not None:
            cv2.imwrite(str(pictures / f'{i:05d}.png'), image[..., ::-1])
        rows.append(_row(head, _true_face(renderer.facekit, head), image, predictor, mesh))
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return RenderedHeads(**columns, mean_landmarks=_mean_landmarks(renderer.facekit))


def _mean_landmarks(facekit: IctFaceKit) -> NDArray[np.float32]:
    return facekit.neutral[facekit.landmark68_vertices]


def _true_face(facekit: IctFaceKit, head: Head) -> Faces:
    """Detection of a perfect detector."""
    xyz_head = facekit.vertices(head.identity[None], head.expression[None])[0]
    bounds = face_bounds(xyz_head[:FACE_VERTICES], head)
    assert bounds is not None  # the sampler keeps faces that the lens sees in full
    return Faces.of_boxes(bounds)


def _row(
    head: Head,
    faces: Faces,
    image: NDArray[np.uint8],
    predictor: KeypointPredictor,
    mesh: FaceMeshPredictor,
) -> dict[str, NDArray]:
    """The fields of `RenderedHeads` that belong to one head."""
    camera = head.camera.runtime()
    found = predictor.predict(image, faces, camera)
    keypoints = mesh.predict(image, faces, camera)
    average, spread = mesh.average(image, keypoints, camera, _JITTERS)
    dist = np.zeros(14)
    dist[: len(camera.dist)] = camera.dist
    return {
        'identity': head.identity.astype(np.float32),
        'expression': head.expression.astype(np.float32),
        'T_cam_head': head.T_cam_head,
        'K': camera.K,
        'dist': dist,
        'distortion_model': np.array(camera.distortion_model),
        'size': np.array([camera.width, camera.height]),
        'roll_yaw_pitch_deg': view_angles_deg(head.T_cam_head),
        'head_uv': found.uv[0].astype(np.float32),
        'head_cov_uv': found.cov_uv[0].astype(np.float32),
        'head_presence': found.presence[0],
        'uv': keypoints.uv[0].astype(np.float32),
        'cov_uv': keypoints.cov_uv[0].astype(np.float32),
        'presence': keypoints.presence[0],
        'average_uv': average.uv[0].astype(np.float32),
        'average_cov_uv': average.cov_uv[0].astype(np.float32),
        'average_presence': average.presence[0],
        'spread': spread[0],
    }


def true_keypoints(heads: RenderedHeads, facekit: IctFaceKit, index: int) -> NDArray[np.float64]:
    """(468, 2) px: where the mesh points that belong to the face model's keypoints project."""
    weights = load_weights('face_model')
    head = heads.head(index)
    xyz_head = facekit.vertices(head.identity[None], head.expression[None])[0]
    corners = xyz_head.astype(np.float64)[weights['ict_vertices'].astype(np.int64)]
    points = (weights['ict_barycentric'].astype(np.float64)[..., None] * corners).sum(-2)
    return head.camera.runtime().project(rotations.apply(head.T_cam_head, points)).uv


def noisy_truth(heads: RenderedHeads, facekit: IctFaceKit, index: int) -> Keypoints:
    """True points of one head, plus normal noise of the covariance stated for Face Mesh's."""
    measured = heads.keypoints(index)
    uv = true_keypoints(heads, facekit, index)[None]
    cov_uv = measured.cov_uv[:, : uv.shape[1]]
    known = np.isfinite(cov_uv).all((-1, -2))
    L = np.linalg.cholesky(np.where(known[..., None, None], cov_uv, np.eye(2)))
    noise = np.random.default_rng(index).standard_normal(uv.shape)
    return Keypoints(uv + (L @ noise[..., None])[..., 0], cov_uv, np.ones(1))


def known_pupils(heads: RenderedHeads, facekit: IctFaceKit, index: int) -> PoseOptions:
    """Options for keypoints with independent noise on a head whose pupils were measured."""
    head = heads.head(index)
    neutral = facekit.vertices(head.identity[None], np.zeros((1, len(head.expression))))
    left, right = eye_centres(neutral)[0]
    return PoseOptions(
        visibility=True,
        independent_keypoints=len(load_weights('face_model')['xyz_head']),
        interpupillary_mm=1e3 * float(np.linalg.norm(left - right)),
        interpupillary_sigma_mm=0.5,
    )


def score(
    heads: RenderedHeads,
    keypoints: Callable[[int], Keypoints],
    model: FaceModel,
    options: Callable[[int], PoseOptions] = lambda _: FACE_MESH_FIT,
) -> tuple[PoseErrors, NDArray[np.bool_]]:
    """Fit all heads.

    Args:
        heads: Truth of N heads.
        keypoints: Gives those of head i; a presence below 0.5 counts as not found.
        model: Face model to fit.
        options: Gives those of `fit_pose` for head i.

    Returns:
        Errors of the M heads that were found and have a pose, and the mask (N,) of these.
    """
    found, poses, covariances = [], [], []
    for i in range(len(heads)):
        of_head = keypoints(i)
        result = fit_pose(of_head, model, heads.head(i).camera.runtime(), options(i)).poses
        found.append(bool(of_head.presence[0] >= MIN_PRESENCE) and not result.failed[0])
        poses.append(result.T_cam_head)
        covariances.append(result.covariance)
    mask = np.array(found)
    return pose_errors(
        np.concatenate(poses)[mask], np.concatenate(covariances)[mask], heads.T_cam_head[mask]
    ), mask


def table(heads: RenderedHeads, errors: PoseErrors, found: NDArray[np.bool_]) -> str:
    """Errors by bin of |yaw|."""
    yaw = np.abs(heads.roll_yaw_pitch_deg[:, 1])
    rows = [HEADING]
    for low, high in _YAW_BINS_DEG:
        mask = (yaw >= low) & (yaw <= high)
        if mask.any():
            rows.append(table_row(f'{low}-{high}', int(mask.sum()), errors[mask[found]]))
    return '\n'.join(rows)


def main(args: Sequence[str] | None = None) -> None:
    """Render and score, or score what was rendered before."""
    limits = HeadRange()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--facekit', type=Path, required=True, help='ICT-FaceKit as .npz')
    parser.add_argument('--hdri', type=Path, help='folder of .hdr maps for light and background')
    parser.add_argument('--heads', type=int, default=300)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--yaw', type=float, default=limits.yaw_deg, help='largest [deg]')
    parser.add_argument('--distance', type=float, nargs=2, default=limits.distance_m, help='[m]')
    parser.add_argument('--pictures', type=Path, help='also write the pictures to this folder')
    parser.add_argument('--export', type=Path, help='also write keypoints and truth to this file')
    parser.add_argument('--score', type=Path, help='score this file instead of rendering')
    options = parser.parse_args(args)

    facekit = IctFaceKit(options.facekit)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    if options.score:
        try:
            heads = RenderedHeads.load(options.score)
            heads.check_frame(facekit)
        except (DataError, ValueError) as error:
            parser.error(str(error))
    else:
        limits = HeadRange(tuple(options.distance), options.yaw)
        network = load_networks('cpu').keypoints
        predictor = KeypointPredictor(network, packaged_calibration(), KeypointOptions().max_crops)
        mesh = FaceMeshPredictor(TorchNetwork(face_mesh_v2(), 'cpu').on_crops, _CROPS)
        heads = export(
            HeadRenderer(facekit, options.hdri),
            predictor,
            mesh,
            limits,
            options.heads,
            options.seed,
            options.pictures,
        )
        if options.export:
            heads.save(options.export)
    model = deformable_face()
    print('keypoint network')
    own = score(heads, heads.head_keypoints, semantic_head(), lambda _: PoseOptions())
    print(table(heads, *own))
    print('Face Mesh')
    print(table(heads, *score(heads, heads.keypoints, model)))
    print('Face Mesh, mean of jittered crops')
    print(table(heads, *score(heads, heads.averaged_keypoints, model)))
    print('true points + noise')
    noisy = [noisy_truth(heads, facekit, i) for i in range(len(heads))]
    print(table(heads, *score(heads, noisy.__getitem__, model)))
    print("the same, every point counted as independent, the pupils' distance known")
    print(
        table(
            heads,
            *score(heads, noisy.__getitem__, model, lambda i: known_pupils(heads, facekit, i)),
        )
    )


if __name__ == '__main__':
    main()
