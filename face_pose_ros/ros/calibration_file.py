"""Calibrations for CameraInfo: from a file of camera_calibration, or guessed. No ROS import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class CalibrationError(ValueError):
    """A calibration file that can't be used; the text names file and field."""


@dataclass(frozen=True)
class Calibration:
    """What a calibration fills of sensor_msgs/CameraInfo, by the names of its fields."""

    width: int  # px
    height: int  # px
    distortion_model: str
    d: tuple[float, ...]  # coefficients in OpenCV's order
    k: tuple[float, ...]  # 3x3 row-major [px]
    r: tuple[float, ...]  # 3x3 row-major
    p: tuple[float, ...]  # 3x4 row-major [px]


def load_calibration(path: Path | str) -> Calibration:
    """Read a YAML file as ROS's camera_calibration writes and camera_calibration_parsers reads it.

    `camera_name`, `binning_x`, `binning_y` and `roi` are not read: K is that of the full picture.

    Raises:
        CalibrationError: There is no such file, or a field is missing or has another form. Whether
            K and the coefficients make a camera is left to `conversions.camera_from_info`.
    """
    try:
        document = yaml.safe_load(Path(path).expanduser().read_text())
        if not isinstance(document, dict):
            raise CalibrationError('expected a YAML file as camera_calibration writes it')
        return Calibration(
            width=_size(document, 'image_width'),
            height=_size(document, 'image_height'),
            # Files of the time when there was only this model do not name it.
            distortion_model=str(document.get('distortion_model', 'plumb_bob')),
            d=_matrix(document, 'distortion_coefficients'),
            k=_matrix(document, 'camera_matrix', (3, 3)),
            r=_matrix(document, 'rectification_matrix', (3, 3)),
            p=_matrix(document, 'projection_matrix', (3, 4)),
        )
    except OSError as error:
        raise CalibrationError(f'calibration file {path}: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = ' '.join(str(error).split())
        raise CalibrationError(f'calibration file {path}: expected YAML ({text})') from error
    except CalibrationError as error:
        raise CalibrationError(f'calibration file {path}: {error}') from error


def guess_calibration(width: int, height: int, horizontal_fov_deg: float) -> Calibration:
    """A pinhole with square pixels and its principal point in the middle, without distortion.

    Args:
        width: Of the picture [px].
        height: Of the picture [px].
        horizontal_fov_deg: Angle between the picture's left and right edge, in (0, 180) deg.
    """
    f = 0.5 * width / math.tan(math.radians(0.5 * horizontal_fov_deg))
    # Pixel (0, 0) is the centre of the first pixel.
    cx, cy = 0.5 * (width - 1), 0.5 * (height - 1)
    return Calibration(
        width=width,
        height=height,
        distortion_model='plumb_bob',
        d=(0.0,) * 5,
        k=(f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0),
        r=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        p=(f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0),
    )


def _size(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if not isinstance(value, int) or value <= 0:
        raise CalibrationError(f'{name} is {value}, expected a positive whole number of pixels')
    return value


def _matrix(
    document: dict[str, Any], name: str, shape: tuple[int, int] | None = None
) -> tuple[float, ...]:
    """Numbers of a matrix written as rows, cols and data; without a shape, of any size."""
    expected = 'rows, cols and data of {} numbers'.format('x'.join(map(str, shape or 'NM')))
    value = document.get(name)
    if not isinstance(value, dict):
        raise CalibrationError(f'{name} is {value}, expected {expected}')
    rows, cols = value.get('rows'), value.get('cols')
    data: Any = value.get('data')
    try:
        # PyYAML takes 1e-05 for text, float does not.
        numbers = tuple(float(number) for number in data)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f'data of {name} is {data}, expected {expected}') from error
    if not all(map(math.isfinite, numbers)):
        raise CalibrationError(f'data of {name} is {data}, expected finite numbers')
    if (shape and (rows, cols) != shape) or not _fills(rows, cols, len(numbers)):
        raise CalibrationError(
            f'{name} has rows {rows}, cols {cols} and {len(numbers)} numbers, expected {expected}'
        )
    return numbers


def _fills(rows: Any, cols: Any, count: int) -> bool:
    return isinstance(rows, int) and isinstance(cols, int) and rows * cols == count
