# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Head rotations against labels: Euler angles, geodesic distance, bins of yaw, alignment.

The labels of 300W-LP and AFLW2000-3D are Euler angles of R = Rx(-pitch) Ry(yaw) Rz(roll) in the
camera's optical frame. Their head axes point to the picture's right, down and into the head for
a frontal face (Zhu et al., "Face Alignment Across Large Poses", CVPR 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

# The labels' head axes in our head frame (x out of the face, y to the person's left, z up).
R_HEAD_LABEL: Array = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

MAX_ANGLE_DEG = 99.0  # the protocol leaves out pictures with any larger angle
YAW_BINS_DEG = ((0.0, 30.0), (30.0, 60.0), (60.0, MAX_ANGLE_DEG))
_SIGNS = np.array([-1.0, 1.0, 1.0])  # of pitch, yaw, roll about x, y, z


@dataclass(frozen=True)
class Row:
    """Errors of the faces of one bin; means over the found ones, NaN if there are none.

    `*_aligned` are the same after one constant rotation of the head frame is removed.
    """

    name: str
    faces: int
    found: float  # share, in [0, 1]
    pitch_deg: float  # mean absolute errors, see `label_errors_deg`
    yaw_deg: float
    roll_deg: float
    mae_deg: float  # mean of the three
    geodesic_mean_deg: float
    geodesic_median_deg: float
    mae_aligned_deg: float
    geodesic_mean_aligned_deg: float
    sigma_deg: float  # mean of the stated standard deviations of the angle of the error


def rotation_from_label(pitch_yaw_roll_deg: ArrayLike) -> Array:
    """Rotations (..., 3, 3) of the labels' head axes in the camera, of angles (..., 3) [deg]."""
    angles = np.asarray(pitch_yaw_roll_deg, dtype=np.float64) * _SIGNS
    R = Rotation.from_euler('XYZ', angles.reshape(-1, 3), degrees=True).as_matrix()
    return np.asarray(R.reshape(*angles.shape, 3))


def label_from_rotation(R_cam_label: Array) -> Array:
    """Pitch, yaw, roll (..., 3) [deg] of rotations (..., 3, 3); yaw is in [-90, 90].

    At a yaw of exactly 90 deg only a sum of pitch and roll is defined.
    """
    angle_y = np.arcsin(R_cam_label[..., 0, 2].clip(-1, 1))
    angle_x = np.arctan2(-R_cam_label[..., 1, 2], R_cam_label[..., 2, 2])
    angle_z = np.arctan2(-R_cam_label[..., 0, 1], R_cam_label[..., 0, 0])
    return np.asarray(np.rad2deg(np.stack([angle_x, angle_y, angle_z], -1)) * _SIGNS)


def wrapped_difference_deg(a_deg: ArrayLike, b_deg: ArrayLike) -> Array:
    """Difference a - b in [-180, 180) deg, element by element."""
    difference = np.asarray(a_deg, dtype=np.float64) - np.asarray(b_deg, dtype=np.float64)
    return np.asarray((difference + 180) % 360 - 180)


def label_errors_deg(R_cam_label: Array, label_deg: Array) -> Array:
    """Absolute differences (N, 3) [deg] of pitch, yaw, roll between rotations and labels.

    Two triples of angles mean the same rotation, one of them with a yaw beyond 90 deg: of both the
    one that is nearer to the label counts. So a perfect estimate has no error, whatever the label.
    (6DRepNet's test.py takes every angle by itself modulo 180 deg instead.)

    Args:
        R_cam_label: (N, 3, 3) estimates of the labels' head axes.
        label_deg: (N, 3) pitch, yaw, roll [deg].
    """
    angles = label_from_rotation(R_cam_label)
    turned = angles * [1, -1, 1] + 180
    errors = np.abs([wrapped_difference_deg(a, label_deg) for a in (angles, turned)])
    nearer = errors.sum(axis=-1).argmin(axis=0)
    return np.asarray(np.where(nearer[:, None] == 0, errors[0], errors[1]))


def geodesic_deg(R_a: Array, R_b: Array) -> Array:
    """Angles (N,) [deg] between rotations (N, 3, 3)."""
    return np.asarray(Rotation.from_matrix(R_a.swapaxes(-1, -2) @ R_b).magnitude() * 180 / np.pi)


def constant_rotation(R: Array, R_true: Array) -> Array:
    """The (3, 3) rotation C of the head frame for which R C is nearest to R_true on average.

    The chordal L2 mean of R^T R_true (Hartley et al., "Rotation Averaging", IJCV 2013, section
    5.3). Two definitions of the head frame differ by such a constant.

    Args:
        R: (N, 3, 3) estimates, N > 0.
        R_true: (N, 3, 3) labels.
    """
    return np.asarray(Rotation.from_matrix(R.swapaxes(-1, -2) @ R_true).mean().as_matrix())


def yaw_bins(yaw_deg: Array) -> dict[str, NDArray[np.bool_]]:
    """Masks (N,) of the bins of |yaw|, by name, and of all; a face on an edge is in the upper one.

    The last bin holds its upper edge too.
    """
    size = np.abs(yaw_deg)
    bins = {f'{a:.0f}-{b:.0f}': (size >= a) & (size < b) for a, b in YAW_BINS_DEG}
    first, last = YAW_BINS_DEG[-1]
    bins[f'{first:.0f}-{last:.0f}'] = (size >= first) & (size <= last)
    return bins | {'all': size <= last}


def score(
    R_cam_head: Array, covariance: Array, found: NDArray[np.bool_], pitch_yaw_roll_deg: Array
) -> list[Row]:
    """Errors by bin of |yaw|, raw and after the rotation that fits the first bin is removed.

    Args:
        R_cam_head: (N, 3, 3) estimates in our head frame.
        covariance: (N, 3, 3) of their rotation about the camera's axes [rad^2].
        found: (N,) the faces that have an estimate.
        pitch_yaw_roll_deg: (N, 3) labels [deg].
    """
    R = R_cam_head @ R_HEAD_LABEL
    R_true = rotation_from_label(pitch_yaw_roll_deg)
    bins = yaw_bins(pitch_yaw_roll_deg[:, 1])
    C = _alignment(R, R_true, found, pitch_yaw_roll_deg[:, 1])
    return [
        _row(name, mask, found, R, R @ C, covariance, pitch_yaw_roll_deg)
        for name, mask in bins.items()
    ]


def aligned_errors_deg(
    R_cam_head: Array, found: NDArray[np.bool_], pitch_yaw_roll_deg: Array
) -> Array:
    """(N,) [deg] geodesic errors, NaN for faces that are not found; arguments as in `score`.

    The rotation that fits the first bin best is removed.
    """
    R, R_true = R_cam_head @ R_HEAD_LABEL, rotation_from_label(pitch_yaw_roll_deg)
    C = _alignment(R, R_true, found, pitch_yaw_roll_deg[:, 1])
    return np.where(found, geodesic_deg(R @ C, R_true), np.nan)


def _alignment(R: Array, R_true: Array, found: NDArray[np.bool_], yaw_deg: Array) -> Array:
    frontal = found & next(iter(yaw_bins(yaw_deg).values()))
    return constant_rotation(R[frontal], R_true[frontal]) if frontal.any() else np.eye(3)


def _row(
    name: str,
    mask: NDArray[np.bool_],
    found: NDArray[np.bool_],
    R: Array,
    R_aligned: Array,
    covariance: Array,
    label_deg: Array,
) -> Row:
    used = mask & found
    count = int(used.sum())
    if count == 0:
        return Row(name, int(mask.sum()), 0.0 if mask.any() else np.nan, *[np.nan] * 9)
    R_true = rotation_from_label(label_deg[used])
    error = label_errors_deg(R[used], label_deg[used])
    error_aligned = label_errors_deg(R_aligned[used], label_deg[used])
    geodesic = geodesic_deg(R[used], R_true)
    # The angle of a small rotation error has the trace as its mean square.
    sigma = np.rad2deg(np.sqrt(np.trace(covariance[used], axis1=1, axis2=2)))
    pitch, yaw, roll = error.mean(axis=0)
    return Row(
        name,
        faces=int(mask.sum()),
        found=count / int(mask.sum()),
        pitch_deg=float(pitch),
        yaw_deg=float(yaw),
        roll_deg=float(roll),
        mae_deg=float(error.mean()),
        geodesic_mean_deg=float(geodesic.mean()),
        geodesic_median_deg=float(np.median(geodesic)),
        mae_aligned_deg=float(error_aligned.mean()),
        geodesic_mean_aligned_deg=float(geodesic_deg(R_aligned[used], R_true).mean()),
        sigma_deg=float(sigma.mean()),
    )


# Heading, width, field, format.
_COLUMNS = (
    ('|yaw| [deg]', 12, 'name', ''),
    ('faces', 6, 'faces', ''),
    ('found', 7, 'found', '.1%'),
    ('pitch', 7, 'pitch_deg', '.2f'),
    ('yaw', 7, 'yaw_deg', '.2f'),
    ('roll', 7, 'roll_deg', '.2f'),
    ('MAE', 7, 'mae_deg', '.2f'),
    ('aligned', 8, 'mae_aligned_deg', '.2f'),
    ('geodesic', 10, 'geodesic_mean_deg', '.2f'),
    ('median', 7, 'geodesic_median_deg', '.2f'),
    ('aligned', 8, 'geodesic_mean_aligned_deg', '.2f'),
    ('stated sigma', 13, 'sigma_deg', '.2f'),
)


def text(tables: dict[str, list[Row]]) -> str:
    """Rows by configuration, as columns of text; all errors in degrees."""
    heading = ''.join(f'{title:>{width}}' for title, width, *_ in _COLUMNS)
    blocks = []
    for name, rows in tables.items():
        lines = [
            ''.join(f'{getattr(r, field):>{width}{spec}}' for _, width, field, spec in _COLUMNS)
            for r in rows
        ]
        blocks.append('\n'.join([name, heading, *lines]))
    return '\n\n'.join(blocks)


def markdown(tables: dict[str, list[Row]]) -> str:
    """Rows by configuration, as one Markdown table; all errors in degrees."""
    titles = ['configuration', *(title.replace('|', '\\|') for title, *_ in _COLUMNS)]
    lines = [titles, ['---'] * len(titles)]
    for name, rows in tables.items():
        lines += [[name, *(f'{getattr(r, f):{spec}}' for _, _, f, spec in _COLUMNS)] for r in rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
