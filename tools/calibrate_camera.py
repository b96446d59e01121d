# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrate a camera from photographs of a chessboard; see docs/calibration.md.

python tools/calibrate_camera.py PHOTOGRAPHS --size 8x6 --square 0.025 --out camera.yaml
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

_MIN_VIEWS = 3  # fewer leave K undetermined; 15 or more are good
_MIN_TILT_DEG = 10.0  # between the two most different views; less leaves K undetermined, too


def calibration(folder: Path, size: tuple[int, int], square_m: float) -> dict[str, Any]:
    """A calibration in the format of camera_calibration, with the model plumb_bob.

    Args:
        folder: Photographs of one camera, of equal size.
        size: Inner corners per row and per column.
        square_m: Side of a square [m].

    Raises:
        ValueError: The images differ in size, too few show the board, or it is not tilted enough
            between them; in words.
    """
    board = np.zeros((size[0] * size[1], 3), np.float32)
    board[:, :2] = square_m * np.mgrid[: size[0], : size[1]].T.reshape(-1, 2)
    views: list[NDArray[Any]] = []
    shape: tuple[int, ...] = ()
    for path in sorted(folder.iterdir()):
        # Nodes ignore the EXIF orientation as well.
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        if grey is None:
            print(f'{path.name}: not an image')
            continue
        if shape and grey.shape != shape:
            raise ValueError(
                f'{path.name} has {grey.shape[1]} x {grey.shape[0]} px, expected '
                f'{shape[1]} x {shape[0]} px like the images before'
            )
        shape = grey.shape
        found, corners = cv2.findChessboardCornersSB(grey, size)
        print(f'{path.name}: {"board found" if found else "no board"}')
        views += [corners] if found else []
    if len(views) < _MIN_VIEWS:
        raise ValueError(
            f'{len(views)} images of {folder} show a board with {size[0]} x {size[1]} inner '
            f'corners, expected {_MIN_VIEWS} or more'
        )
    error, K, dist, turns, _ = cv2.calibrateCamera(
        [board] * len(views), views, (shape[1], shape[0]), np.empty(0), np.empty(0)
    )
    print(f'{len(views)} images, rms error {error:.2f} px')
    tilt_deg = _largest_tilt_deg(turns)
    if tilt_deg < _MIN_TILT_DEG:
        raise ValueError(
            f"the board's tilts differ by {tilt_deg:.0f} deg at most, expected "
            f'{_MIN_TILT_DEG:.0f} deg or more: otherwise the focal lengths are not determined. '
            'Tilt it in all directions, by 30 deg for instance'
        )
    return {
        'image_width': shape[1],
        'image_height': shape[0],
        'camera_name': 'camera',
        'camera_matrix': _matrix(K),
        'distortion_model': 'plumb_bob',
        'distortion_coefficients': _matrix(dist.reshape(1, -1)),
        'rectification_matrix': _matrix(np.eye(3)),
        'projection_matrix': _matrix(np.hstack([K, np.zeros((3, 1))])),
    }


def _largest_tilt_deg(turns: Sequence[NDArray[Any]]) -> float:
    """Largest angle between the normals of two views, from the rotation vectors of the boards."""
    normals = np.array([cv2.Rodrigues(turn)[0][:, 2] for turn in turns])
    return float(np.degrees(np.arccos(np.clip(normals @ normals.T, -1, 1)).max()))


def _matrix(values: NDArray[Any]) -> dict[str, Any]:
    return {'rows': values.shape[0], 'cols': values.shape[1], 'data': values.ravel().tolist()}


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    columns, rows = map(int, match.groups()) if match else (0, 0)
    if min(columns, rows) < 3:
        raise argparse.ArgumentTypeError(
            f'{text} is not like 8x6, with 3 or more in each direction'
        )
    return columns, rows


def _length(text: str) -> float:
    length_m = float(text)
    if not 0 < length_m < np.inf:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return length_m


def main(args: Sequence[str] | None = None) -> None:
    """Calibrate and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='folder of photographs')
    parser.add_argument('--size', type=_size, default=(8, 6), help='inner corners, 8x6 by default')
    parser.add_argument('--square', type=_length, required=True, help='side of a square [m]')
    parser.add_argument('--out', type=Path, default=Path('camera.yaml'))
    options = parser.parse_args(args)
    if not options.out.parent.is_dir():
        parser.error(f'argument --out: no folder {options.out.parent}')
    try:
        result = calibration(options.folder, options.size, options.square)
        options.out.write_text(yaml.safe_dump(result, sort_keys=False))
    except (OSError, ValueError) as error:
        parser.exit(1, f'{error}\n')


if __name__ == '__main__':
    main()
