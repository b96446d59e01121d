# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The labelled images of AFLW2000-3D that the protocol uses.

A folder holds `labels.json` ({name: {pitch_yaw_roll_deg, points68_xyz_px}}) and `images/NAME.jpg`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.data_error import DataError


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    name: str
    path: Path
    pitch_yaw_roll_deg: NDArray[np.float64]  # (3,)
    box_xyxy: NDArray[np.float64]  # (4,) px, bounds of the 68 points


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
