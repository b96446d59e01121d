# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrations as keys and values: ROS, OpenCV, Kalibr, camodocal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from face_pose_ros.calibration.calibration import Calibration, CalibrationError

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# Kalibr's and EuRoC's names of the distortions that OpenCV has too.
_OF_KALIBR = {
    'radtan': 'plumb_bob',
    'radial-tangential': 'plumb_bob',
    'equidistant': 'equidistant',
    'equi': 'equidistant',
    'none': 'plumb_bob',
}
# Camodocal's models: their name in ROS, intrinsics, block and names of the coefficients.
_OF_CAMODOCAL = {
    'PINHOLE': ('plumb_bob', 'fx fy cx cy', 'distortion_parameters', 'k1 k2 p1 p2'),
    'KANNALA_BRANDT': ('equidistant', 'mu mv u0 v0', 'projection_parameters', 'k2 k3 k4 k5'),
}


def calibration_of(document: Any) -> Calibration:
    """The calibration in a parsed document.

    Raises:
        CalibrationError: The format is not known, or a field is missing or malformed.
    """
    if not isinstance(document, Mapping):
        raise CalibrationError('expected a YAML file as camera_calibration writes it')
    cameras = [key for key in document if re.fullmatch(r'cam\d+', str(key))]
    if len(cameras) > 1:
        raise CalibrationError(
            f'several cameras ({", ".join(cameras)}, as Kalibr writes them), expected one: keep '
            'its block alone in a copy of the file'
        )
    if cameras:
        return calibration_of(document[cameras[0]])
    fields = {str(key).lower(): value for key, value in document.items()}
    if 'intrinsics' in fields and 'camera_model' in fields:
        return _of_kalibr(fields)
    if 'projection_parameters' in fields:
        return _of_camodocal(fields)
    if 'k' in fields and 'width' in fields:
        return _of_message(fields)
    if 'image_width' in fields or 'camera_matrix' in fields:
        return _of_matrices(fields)
    found = ', '.join(map(str, list(document)[:6]))
    raise CalibrationError(
        f'unknown format (found {found}), expected a YAML file as camera_calibration writes it, '
        'with image_width, image_height, camera_matrix and distortion_coefficients; '
        'docs/calibration.md has the other formats'
    )


def _of_matrices(fields: Mapping[str, Any]) -> Calibration:
    """Calibration in the format of camera_calibration and OpenCV's calibration sample."""
    k = _matrix(fields, 'camera_matrix', (3, 3))
    d = _matrix(fields, 'distortion_coefficients')
    return _calibration(
        fields,
        _size(fields, 'image_width'),
        _size(fields, 'image_height'),
        _named_model(fields) or model_of(len(d)),
        d,
        k,
        _matrix(fields, 'rectification_matrix', (3, 3), _IDENTITY),
        _matrix(fields, 'projection_matrix', (3, 4), projection_of(k)),
    )


def _of_message(fields: Mapping[str, Any]) -> Calibration:
    """Calibration in a CameraInfo printed by `ros2 topic echo`; ROS 1 has capital letters."""
    k = _matrix(fields, 'k', (3, 3))
    return _calibration(
        fields,
        _size(fields, 'width'),
        _size(fields, 'height'),
        str(fields.get('distortion_model', '')),
        _matrix(fields, 'd'),
        k,
        _matrix(fields, 'r', (3, 3), _IDENTITY),
        _matrix(fields, 'p', (3, 4), projection_of(k)),
    )


def _of_kalibr(fields: Mapping[str, Any]) -> Calibration:
    """Calibration in a camera of Kalibr's camchain, or sensor.yaml of the EuRoC data set."""
    model, distortion = fields.get('camera_model'), fields.get('distortion_model')
    if model != 'pinhole' or distortion not in _OF_KALIBR:
        raise CalibrationError(
            f"a camera of Kalibr with camera_model '{model}' and distortion_model '{distortion}', "
            'expected pinhole with radtan, equidistant or none: calibrate with --models '
            'pinhole-radtan or, for a fisheye, pinhole-equi'
        )
    name = 'distortion_coeffs' if 'distortion_coeffs' in fields else 'distortion_coefficients'
    d = () if distortion == 'none' else _numbers(fields, name, 4)
    size = dict(zip(('width', 'height'), _numbers(fields, 'resolution', 2), strict=True))
    return _unrectified(
        _size(size, 'width'),
        _size(size, 'height'),
        _OF_KALIBR[distortion],
        _numbers(fields, 'intrinsics', 4),
        d,
    )


def _of_camodocal(fields: Mapping[str, Any]) -> Calibration:
    """Calibration in a file of camodocal, which VINS-Mono and similar projects use."""
    model = fields.get('model_type')
    if model not in _OF_CAMODOCAL:
        raise CalibrationError(
            f"a camera of camodocal with model_type '{model}', expected "
            f'{" or ".join(_OF_CAMODOCAL)}'
        )
    name, intrinsics, block, coefficients = _OF_CAMODOCAL[model]
    return _unrectified(
        _size(fields, 'image_width'),
        _size(fields, 'image_height'),
        name,
        _named(fields, 'projection_parameters', intrinsics),
        _named(fields, block, coefficients),
    )


def _named(fields: Mapping[str, Any], block: str, names: str) -> tuple[float, ...]:
    values = fields.get(block)
    if not isinstance(values, Mapping):
        raise CalibrationError(f'{block} is {values}, expected {names}')
    return _floats(block, [values.get(name) for name in names.split()], names)


def _unrectified(
    width: int, height: int, model: str, intrinsics: tuple[float, ...], d: tuple[float, ...]
) -> Calibration:
    """Calibration of images that are not rectified, from fx, fy, cx, cy [px]."""
    fx, fy, cx, cy = intrinsics
    k = (fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0)
    return Calibration(width, height, model, d, k, _IDENTITY, projection_of(k))


def projection_of(k: tuple[float, ...]) -> tuple[float, ...]:
    """P (3x4 row-major) of images with this K (3x3 row-major), not rectified."""
    return (*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0)


def model_of(coefficients: int) -> str:
    """The model that OpenCV uses for this number of coefficients."""
    return 'plumb_bob' if coefficients <= 5 else 'rational_polynomial'


def _named_model(fields: Mapping[str, Any]) -> str:
    # OpenCV's sample writes 1 or true for a fisheye, 0 or nothing otherwise.
    if str(fields.get('fisheye_model', '0')).lower() not in ('0', '0.0', 'false'):
        return 'equidistant'
    # Other tools, and old files of ROS, name it camera_model.
    return str(fields.get('distortion_model') or fields.get('camera_model') or '')


def _calibration(
    fields: Mapping[str, Any],
    width: int,
    height: int,
    model: str,
    d: tuple[float, ...],
    k: tuple[float, ...],
    r: tuple[float, ...],
    p: tuple[float, ...],
) -> Calibration:
    """The calibration; binning and regions of interest are refused."""
    bins = [_whole(fields.get(name) or 0) for name in ('binning_x', 'binning_y')]
    roi = fields.get('roi')
    roi = roi if isinstance(roi, Mapping) else {}
    parts = [_whole(roi.get(name) or 0) for name in ('width', 'height')]
    if any(number not in (0, 1) for number in bins) or parts not in ([0, 0], [width, height]):
        raise CalibrationError(
            f'binning {bins[0]} x {bins[1]} and a region of interest of {parts[0]} x {parts[1]} '
            f'px of {width} x {height} px, expected K and size of the images themselves'
        )
    return Calibration(width, height, model, d, k, r, p)


def _whole(value: Any) -> int | None:
    try:
        number = float(value)
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _size(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    number = _whole(value)
    if number is None or number <= 0:
        raise CalibrationError(f'{name} is {value}, expected a positive whole number of pixels')
    return number


def _matrix(
    fields: Mapping[str, Any],
    name: str,
    shape: tuple[int, int] | None = None,
    default: tuple[float, ...] | None = None,
) -> tuple[float, ...]:
    """The numbers of a matrix; without a shape, of any size.

    Written as rows, cols and data, or as a list (of rows).
    """
    value = fields.get(name)
    if value is None and default is not None:
        return default
    size = 'x'.join(map(str, shape or 'NM'))
    if isinstance(value, list):
        numbers = _floats(name, value, size)
        if shape and len(numbers) != shape[0] * shape[1]:
            raise CalibrationError(f'{name} has {len(numbers)} numbers, expected {size}')
        return numbers
    if not isinstance(value, Mapping):
        raise CalibrationError(
            f'{name} is {value}, expected rows, cols and data of {size} numbers'
        )
    rows, cols = _whole(value.get('rows')), _whole(value.get('cols'))
    numbers = _floats(name, value.get('data'), size)
    fills = rows is not None and cols is not None and rows * cols == len(numbers)
    # depthai-ros's examples exchange rows and cols of P; ROS's parser accepts them, too.
    if (shape and shape not in ((rows, cols), (cols, rows))) or not fills:
        raise CalibrationError(
            f'{name} has rows {rows}, cols {cols} and {len(numbers)} numbers, expected rows, cols '
            f'and data of {size} numbers'
        )
    return numbers


def _numbers(fields: Mapping[str, Any], name: str, count: int) -> tuple[float, ...]:
    numbers = _floats(name, fields.get(name), str(count))
    if len(numbers) != count:
        raise CalibrationError(f'{name} has {len(numbers)} numbers, expected {count}')
    return numbers


def _floats(name: str, data: Any, size: str) -> tuple[float, ...]:
    try:
        rows = [row if isinstance(row, list) else [row] for row in data]
        numbers = tuple(_float(number) for row in rows for number in row)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f'data of {name} is {data}, expected {size} numbers') from error
    if not all(map(math.isfinite, numbers)):
        raise CalibrationError(f'data of {name} is {data}, expected finite numbers')
    return numbers


def _float(value: Any) -> float:
    # YAML's .nan and .inf; OpenCV writes .Nan.
    return float(re.sub(r'^([-+]?)\.(?=[a-z])', r'\1', str(value).lower()))
