# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads ost.txt and .ini of camera_calibration_parsers, the format of Videre's cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence

from face_pose_ros.calibration.calibration import Calibration, CalibrationError
from face_pose_ros.calibration.mappings import model_of

_SHAPES = {
    'camera matrix': (3, 3),
    'rectification': (3, 3),
    'projection': (3, 4),
}


def calibration_of_lines(lines: Sequence[str]) -> Calibration:
    """The calibration in the lines of a file: names, and the numbers below each.

    Raises:
        CalibrationError: A field is missing or malformed, or there are several cameras.
    """
    blocks, cameras = _blocks(lines)
    if len(cameras) > 1:
        raise CalibrationError(
            f'an ost.txt or .ini file with {", ".join(cameras)}, expected one camera: keep its '
            'section and [image] alone in a copy of the file'
        )
    k, r, p = (_block(blocks, name, (rows, cols)) for name, (rows, cols) in _SHAPES.items())
    d = _block(blocks, 'distortion', None)
    if len(d) == 4:  # only camera_calibration's fisheye has four
        raise CalibrationError(
            "distortion has 4 numbers, a fisheye's, whose model this format cannot name, expected "
            '5 or 8: use the ost.yaml beside it'
        )
    if len(d) not in (5, 8):
        raise CalibrationError(f'distortion has {len(d)} numbers, expected 5 or 8')
    return Calibration(
        _size(blocks, 'width'), _size(blocks, 'height'), model_of(len(d)), d, k, r, p
    )


def _blocks(lines: Sequence[str]) -> tuple[dict[str, list[list[float]]], list[str]]:
    """Rows of numbers by the name above them, and the names of the cameras."""
    blocks: dict[str, list[list[float]]] = {}
    cameras: list[str] = []
    rows: list[list[float]] = []
    for line in map(str.strip, lines):
        if not line or line[0] in '#;':
            continue
        if line.startswith('['):
            name = line.strip('[]')
            cameras += [] if name in ('image', 'externals') else [name]
            continue
        try:
            rows.append([float(word) for word in line.split()])
        except ValueError:
            rows = blocks[line.lower()] = []
    return blocks, cameras


def _block(
    blocks: dict[str, list[list[float]]], name: str, shape: tuple[int, int] | None
) -> tuple[float, ...]:
    rows = blocks.get(name)
    size = 'x'.join(map(str, shape)) if shape else '5 or 8'
    if rows is None:
        raise CalibrationError(
            f'an ost.txt or .ini file without {name}, expected it with {size} numbers below, as '
            'camera_calibration writes it'
        )
    if shape and [len(row) for row in rows] != [shape[1]] * shape[0]:
        raise CalibrationError(f'{name} has {sum(map(len, rows))} numbers, expected {size}')
    numbers = tuple(number for row in rows for number in row)
    if not all(map(math.isfinite, numbers)):
        raise CalibrationError(f'{name} is {numbers}, expected finite numbers')
    return numbers


def _size(blocks: dict[str, list[list[float]]], name: str) -> int:
    (number,) = _block(blocks, name, (1, 1))
    if number != int(number) or number <= 0:
        raise CalibrationError(f'{name} is {number:g}, expected a positive whole number of pixels')
    return int(number)
