# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fit face_pose_lab/weights/keypoint_uncertainty.safetensors: how wrong Face Mesh's keypoints are.

    python -m face_pose_lab.evaluation.rendered_heads ... --export heads.npz
    python lab/tools/fit_keypoint_uncertainty.py --facekit ict_facekit.npz --heads heads.npz

The file holds the network's keypoints on rendered heads, whose true ones are known. In pixels of
the crop, the error of keypoint k is modelled as N(0, f S_k). For one crop, f = exp(g s^2) for a
face with s = sin |yaw|; for the mean of jittered crops, f = a d^p with their spread d. S_k comes
from the errors of the visible keypoints, mirror partners together, moved half-way to the mean of
all keypoints; g, a and p from maximum likelihood over the heads.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import spearmanr

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from face_pose_lab.evaluation.rendered_heads import (  # noqa: E402
    MIN_PRESENCE,
    RenderedHeads,
    true_keypoints,
)
from face_pose_lab.face_mesh.points import mirror_partners  # noqa: E402
from face_pose_lab.face_mesh.predictor import crops_around_face  # noqa: E402
from face_pose_lab.face_mesh.uncertainty import apparent_turn  # noqa: E402
from face_pose_lab.synthetic.ict_facekit import IctFaceKit  # noqa: E402
from face_pose_lab.weights import FOLDER as WEIGHTS  # noqa: E402

from face_pose_ros.pose.face_model import FaceModel, deformable_face  # noqa: E402

Array = NDArray[np.float64]

MAX_YAW_DEG = 60  # beyond it the network often sees another face, which no covariance covers
MIN_FACING = 0.1  # cosine between the skin's normal and the view, of a visible keypoint
# Rendered heads are no photographs: which keypoint errs most is not the same on both.
SHRINKAGE = 0.5
# The irises are not part of the shape model: they get the mean of the eyelids'.
EYELIDS = [33, 133, 159, 145, 263, 362, 386, 374]


def errors(heads: RenderedHeads, facekit: IctFaceKit, index: int) -> tuple[Array, Array, float]:
    """Errors of one head, (468, 2) px of the crop, for one crop and the mean; and its turn."""
    keypoints, camera = heads.keypoints(index), heads.head(index).camera.runtime()
    crop = crops_around_face(keypoints.uv, camera)
    J = crop.jacobian(camera)[0]
    true_uv = true_keypoints(heads, facekit, index)
    of_look, of_average = (
        np.linalg.solve(J, (measured.uv[0, :468] - true_uv).T).T
        for measured in (keypoints, heads.averaged_keypoints(index))
    )
    xyz = camera.unproject(keypoints.uv).rays @ crop.R_cam_crop
    uv_crop = crop.focal_px[:, None, None] * xyz[..., :2] / xyz[..., 2:]
    return of_look, of_average, float(apparent_turn(uv_crop))


def facing(heads: RenderedHeads, face: FaceModel, index: int) -> Array:
    """(468,) cosine between the mean face's normals and the view."""
    T = heads.T_cam_head[index]
    xyz = face.xyz_head @ T[:3, :3].T + T[:3, 3]
    view = -xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)
    return np.asarray(((face.normals @ T[:3, :3].T) * view).sum(-1))


def covariances(error: Array, visible: NDArray[np.bool_], variance: Array) -> Array:
    """S_k (468, 2, 2) of errors (M, 468, 2) whose heads' variances differ by factors (M,)."""
    weight = visible / variance[:, None]
    S = np.einsum('mk,mki,mkj->kij', weight, error, error)
    partner = mirror_partners()[:468]
    flip = np.array([[1, -1], [-1, 1]])
    count = visible.sum(0)
    S = (S + flip * S[partner]) / (count + count[partner])[:, None, None]
    return np.asarray((1 - SHRINKAGE) * S + SHRINKAGE * S.mean(0))


def misfit(distance_sq: Array, count: Array, factor: Array) -> float:
    """Negative log likelihood of heads' factors f (M,), up to a constant.

    Args:
        distance_sq: (M,) sum of the squared errors over S_k.
        count: (M,) visible keypoints.
        factor: (M,).
    """
    return float((distance_sq / factor + 2 * count * np.log(factor)).sum())


def main() -> None:
    """Fit, write, and print the figures and the sha256 of the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--facekit', type=Path, required=True, help='.npz of ICT-FaceKit')
    parser.add_argument('--heads', type=Path, required=True, help='.npz of rendered_heads')
    parser.add_argument('--out', type=Path, default=WEIGHTS)
    args = parser.parse_args()
    facekit, face = IctFaceKit(args.facekit), deformable_face()
    heads = RenderedHeads.load(args.heads)
    heads.check_frame(facekit)

    seen = np.minimum(heads.presence, heads.average_presence) >= MIN_PRESENCE
    seen &= np.abs(heads.roll_yaw_pitch_deg[:, 1]) <= MAX_YAW_DEG
    index = np.flatnonzero(seen)
    of_look, of_average, turn = (
        np.array(x) for x in zip(*(errors(heads, facekit, i) for i in index), strict=True)
    )
    spread = heads.spread[index]
    visible = np.array([facing(heads, face, i) for i in index]) > MIN_FACING
    count = visible.sum(1)

    def distance_sq(error: Array, S: Array) -> Array:
        each = np.einsum('mki,kij,mkj->mk', error, np.linalg.inv(S), error)
        return np.asarray((visible * each).sum(1))

    gain = 0.0
    for _ in range(10):
        S = covariances(of_look, visible, np.exp(gain * turn**2))
        d_sq = distance_sq(of_look, S)
        gain = minimize_scalar(
            lambda g, d_sq=d_sq: misfit(d_sq, count, np.exp(g * turn**2)), bounds=(0, 10)
        ).x
    d_sq = distance_sq(of_average, S)
    log_a, power = minimize(
        lambda x: misfit(d_sq, count, np.exp(x[0] + x[1] * np.log(spread))) / count.sum(),
        (0.0, 0.5),
    ).x

    per_head = [
        (visible[..., None] * error**2).sum((1, 2)) / (2 * count)
        for error in (of_look, of_average)
    ]
    print(f'{len(index)} heads; rms error of one crop {per_head[0].mean() ** 0.5:.2f} px of the')
    print(f'crop, of the mean of jittered crops {per_head[1].mean() ** 0.5:.2f} px')
    print(f'S: {rms(S):.2f} px; one crop: exp({gain:.2f} sin^2 yaw), rank correlation with the')
    print(f'  squared error {spearmanr(turn, per_head[0])[0]:.2f}')
    print(f'mean: {np.exp(log_a):.2f} spread^{power:.2f}, {spearmanr(spread, per_head[1])[0]:.2f}')

    tensors = {
        'cov_crop': np.concatenate([S, np.broadcast_to(S[EYELIDS].mean(0), (10, 2, 2))]),
        'turn_gain': gain,
        'spread_factor': np.exp(log_a),
        'spread_power': power,
    }
    content = safetensors.numpy.save({k: np.array(v, np.float32) for k, v in tensors.items()})
    (args.out / 'keypoint_uncertainty.safetensors').write_bytes(content)
    print(f"'keypoint_uncertainty': '{hashlib.sha256(content).hexdigest()}',")


def rms(S: Array) -> float:
    """Root mean square of the standard deviations of covariances (K, 2, 2)."""
    return float(np.sqrt(np.trace(S, axis1=1, axis2=2).mean() / 2))


if __name__ == '__main__':
    main()
