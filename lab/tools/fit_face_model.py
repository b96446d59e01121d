# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fit face_pose_ros/weights/face_model.safetensors: a deformable face of Face Mesh's 468 points.

    python lab/tools/fit_face_model.py --facekit ict_facekit.npz --keypoints fit_set.npz

1. The canonical face is laid onto ICT-FaceKit's mean head (non-rigid ICP, in the spirit of Amberg
   et al. 2007, "Optimal Step Nonrigid ICP Algorithms for Surface Registration"). Every keypoint
   becomes a point of the skin, given by three vertices and barycentric coordinates.
2. With --keypoints those points slide over the skin to where the network means them to be.
3. ICT-FaceKit's identities and expressions, read at these points, give mean and modes.

lab/docs/face_model.md explains the steps, and the card beside the file states its figures, which
this tool prints. Running it again on the same machine gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / 'lab' / 'tools')]

from face_pose_lab.similarity import similarity  # noqa: E402
from face_pose_lab.synthetic.ict_facekit import (  # noqa: E402
    IDENTITY_MODES,
    IctFaceKit,
    eye_centres,
    similarity_motion,
)
from keypoint_measurements import Measurements, describe, slide  # noqa: E402
from skin_registration import (  # noqa: E402
    Array,
    Ids,
    Skin,
    SkinPoints,
    mirror_partners,
    mirrored,
    register,
    rms,
)

from face_pose_ros.pose.face_model import MEAN_INTERPUPILLARY_M  # noqa: E402
from face_pose_ros.weights import load_weights  # noqa: E402

KEPT_VARIANCE = 0.9  # of the identities' variance at the keypoints

# Multi-PIE landmark of ICT-FaceKit -> keypoint of Face Mesh with the same meaning, on the right
# half of the face and its midline. The left half follows by the mirror.
SAME_POINT = {
    **dict(zip(range(17, 22), (70, 63, 105, 66, 107), strict=True)),  # upper edge of the brow
    **dict(zip((28, 30, 32, 33), (197, 4, 97, 2), strict=True)),  # bridge, tip, base of the nose
    **dict(zip(range(36, 42), (33, 160, 158, 133, 153, 144), strict=True)),  # eyelids
    **dict(zip((48, 50, 51, 57, 59), (61, 37, 0, 17, 91), strict=True)),  # outline of the lips
    **dict(zip((60, 61, 62, 66, 67), (78, 81, 13, 14, 178), strict=True)),  # where they meet
    8: 152,  # chin
}
# Standard deviation of each expression, as a part of the full one. Chosen, not measured: about
# what faces show in conversation. The full expressions are ICT-FaceKit's,
# left and right together.
EXPRESSIONS = {
    'brows_down': (0.4, ('browDown_L', 'browDown_R')),
    'brows_up': (
        0.4,
        ('browInnerUp_L', 'browInnerUp_R', 'browOuterUp_L', 'browOuterUp_R'),
    ),
    'eye_blink': (0.4, ('eyeBlink_L', 'eyeBlink_R')),
    'jaw_open': (0.25, ('jawOpen',)),
    'mouth_pucker': (0.4, ('mouthPucker',)),
    'mouth_smile': (0.4, ('mouthSmile_L', 'mouthSmile_R')),
}


def landmarks_of(facekit: IctFaceKit, partner: Ids) -> dict[int, Array]:
    """Keypoint -> (3,) place of the landmark that means the same, m; both halves."""
    landmarks = {}
    for landmark, keypoint in SAME_POINT.items():
        xyz = facekit.neutral[facekit.landmark68_vertices[landmark]].astype(np.float64)
        landmarks[int(partner[keypoint])] = mirrored(xyz)
        landmarks[keypoint] = xyz
    return landmarks


def interpupillary(heads: NDArray[np.floating]) -> Array:
    """(M,) distance between the eyeballs' centres of heads (M, V, 3), m."""
    left, right = eye_centres(heads).swapaxes(0, 1)
    return np.asarray(np.linalg.norm(left - right, axis=1))


def size_and_identities(facekit: IctFaceKit, points: SkinPoints) -> tuple[Array, Array]:
    """Split the identities into size and the rest; prints the figures of the size.

    The size of an identity is the growth of the mean face that comes nearest to its keypoints. Of
    the size, a part goes with the interpupillary distance: both are linear, to first order, in
    ICT-FaceKit's coefficients z ~ N(0, I), so that part is the regression of one on the other.

    Returns:
        (2,) growth per interpupillary distance [1/m] and the standard deviation of the growth
        that goes without; (100, K, 3) the rest, m, each times an independent N(0, 1).
    """
    modes = facekit.modes[:IDENTITY_MODES]
    ends = [
        np.concatenate([interpupillary(facekit.neutral + s * m[None]) for m in modes])
        for s in (np.float32(-0.1), np.float32(0.1))
    ]
    of_distance = (ends[1] - ends[0]) / 0.2
    variance = of_distance @ of_distance
    mean, offsets = points.of(facekit.neutral), points.of(modes)
    growth = similarity_motion(offsets, mean)[:, 6]
    per_m = growth @ of_distance / variance
    rest = np.linalg.norm(growth - per_m * of_distance)
    d0 = interpupillary(facekit.neutral[None])[0]
    print(f'interpupillary distance: {1e3 * d0:.2f} +- {1e3 * variance**0.5:.2f} mm')
    print(f'size: +- {100 * np.linalg.norm(growth):.2f} %; with the interpupillary distance')
    print(f'  {0.1 * per_m:.3f} % per mm, without it +- {100 * rest:.2f} %')
    return np.array([per_m, rest]), offsets - growth[:, None, None] * mean


def symmetric_part(xyz: Array, partner: Ids) -> Array:
    """Mean of points (..., K, 3) and their mirror image."""
    return (xyz + mirrored(xyz[..., partner, :])) / 2


def principal_modes(offsets: Array, partner: Ids) -> Array:
    """Modes of people and of their mirror images, largest first.

    Half the people are mirrored, so that no side is preferred. Their covariance then splits into
    a symmetric and an antisymmetric part, and every mode is exactly one or the other.

    Args:
        offsets: (J, K, 3) offsets, each times an independent N(0, 1).
        partner: (K,) mirror partners.

    Returns:
        (<= 2J, K, 3) modes per standard deviation, m.
    """
    symmetric = symmetric_part(offsets, partner)
    modes = []
    for part in (symmetric, offsets - symmetric):
        _, s, Vt = np.linalg.svd(part.reshape(len(part), -1), full_matrices=False)
        modes.append((s[:, None] * Vt).reshape(-1, *part.shape[1:]))
    both = np.concatenate(modes)
    flat = both.reshape(len(both), -1)
    largest = np.abs(flat).argmax(1)
    both *= np.sign(flat[np.arange(len(flat)), largest])[:, None, None]  # a sign that stays
    return both[np.argsort(-(both**2).sum((1, 2)), kind='stable')]


def expression_modes(facekit: IctFaceKit, points: SkinPoints, partner: Ids) -> dict[str, Array]:
    """Name -> (K, 3) offset of one standard deviation, m."""
    modes = {}
    for name, (sigma, parts) in EXPRESSIONS.items():
        index = [IDENTITY_MODES + facekit.expression_names.index(part) for part in parts]
        offset = sigma * points.of(facekit.modes[index]).sum(0)
        modes[f'expression.{name}'] = symmetric_part(offset, partner)
    return modes


def correspondences(facekit: IctFaceKit, keypoints: Path | None) -> SkinPoints:
    """Locate the keypoints on the skin: steps 1 and 2; prints their figures."""
    face, triangles = canonical()
    partner = mirror_partners(face)
    skin = Skin(facekit)
    landmarks = landmarks_of(facekit, partner)
    registered = skin.symmetric(register(face, triangles, skin, landmarks), partner)
    if keypoints is None:
        return registered
    measurements = Measurements.load(keypoints, facekit, len(face))
    print(f'rms over keypoints, {len(measurements.xy)} rendered heads')
    describe('  registered', measurements, registered, skin, triangles)
    points = slide(registered, skin, measurements, partner, triangles)
    describe('  slid', measurements, points, skin, triangles)
    moved = 1e3 * np.linalg.norm(points.of(skin.xyz) - registered.of(skin.xyz), axis=1)
    print(f'  moved by {np.median(moved):.2f} mm (median), {moved.max():.1f} mm (largest)')
    return points


def face_model(facekit: IctFaceKit, points: SkinPoints) -> dict[str, NDArray]:
    """The tensors of the file, step 3; prints their figures."""
    face, triangles = canonical()
    partner = mirror_partners(face)
    size, identities = size_and_identities(facekit, points)
    # Everything is scaled to a mean interpupillary distance of 63 mm.
    scale = MEAN_INTERPUPILLARY_M / interpupillary(facekit.neutral[None])[0]
    mean = scale * symmetric_part(points.of(facekit.neutral), partner)
    modes = principal_modes(scale * identities, partner)
    variance = (modes**2).sum((1, 2))
    explained = np.cumsum(variance) / variance.sum()
    kept = int(np.searchsorted(explained, KEPT_VARIANCE)) + 1
    residual = np.sqrt((modes[kept:] ** 2).sum((0, 2)))

    s, R, t = similarity(face, mean)
    pitch = np.degrees(np.arctan2(R[0, 2], R[0, 0]))
    print(f'canonical face -> mean: scale {s:.4f}, pitch {pitch:.2f} deg, sellion at {1e3 * t} mm')
    print(f'  then {1e3 * rms(s * face @ R.T + t - mean):.2f} mm rms apart')
    print(f'identity: {1e3 * np.sqrt(variance.sum() / len(mean)):.2f} mm; modes explain')
    print(f'  {np.round(explained[:20], 3)}; {kept} are kept,')
    print(f'  {1e3 * np.sqrt((residual**2).mean()):.2f} mm are left out')
    real = {
        'xyz_head': mean,
        'size': size / [scale, 1],
        'identity_modes': modes[:kept],
        'residual': residual,
        'variance_explained': explained[:kept],
        'ict_barycentric': points.barycentric,
        **{n: scale * x for n, x in expression_modes(facekit, points, partner).items()},
    }
    whole = {'mirror': partner, 'triangles': triangles, 'ict_vertices': points.vertices}
    return {name: np.ascontiguousarray(x, np.float32) for name, x in real.items()} | {
        name: np.ascontiguousarray(x, np.int32) for name, x in whole.items()
    }


def canonical() -> tuple[Array, Ids]:
    """Points (468, 3) [m] and triangles (898, 3) of the canonical face."""
    weights = load_weights('canonical_face')
    return weights['xyz_head'].astype(np.float64), weights['triangles'].astype(np.int64)


def main() -> None:
    """Fit, write, and print the sha256 of the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--facekit', type=Path, required=True, help='.npz of ICT-FaceKit')
    parser.add_argument('--keypoints', type=Path, help='the network seen on rendered heads')
    parser.add_argument('--out', type=Path, default=REPOSITORY / 'face_pose_ros' / 'weights')
    args = parser.parse_args()
    facekit = IctFaceKit(args.facekit)
    points = correspondences(facekit, args.keypoints)
    content = safetensors.numpy.save(face_model(facekit, points))
    (args.out / 'face_model.safetensors').write_bytes(content)
    print(f"'face_model': '{hashlib.sha256(content).hexdigest()}',  # {len(content)} bytes")


if __name__ == '__main__':
    main()
