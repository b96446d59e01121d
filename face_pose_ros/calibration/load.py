# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads calibration files of several formats."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import cv2
import yaml

from face_pose_ros.calibration.calibration import Calibration, CalibrationError
from face_pose_ros.calibration.mappings import calibration_of
from face_pose_ros.calibration.videre import calibration_of_lines

_MAX_BYTES = 1_000_000  # larger files are no calibrations, for instance videos


def load_calibration(path: Path | str) -> Calibration:
    """Read the calibration of one camera, in the size of its images.

    Formats: YAML of camera_calibration and camera_info_manager, with or without the tags and the
    first line of OpenCV; OpenCV's FileStorage (YAML, XML, JSON); a CameraInfo message as
    `ros2 topic echo` prints it; a camera of Kalibr or of the EuRoC data set, pinhole with radtan,
    equidistant or no distortion; ost.txt and .ini of camera_calibration_parsers.

    Raises:
        CalibrationError: There is no such file, its format is unknown, or a field is missing or
            malformed. Whether K and the coefficients make a camera is left to `Camera.from_K`.
    """
    try:
        with Path(path).expanduser().open('rb') as file:
            data = file.read(_MAX_BYTES + 1)
        return _calibration_in(data)
    except OSError as error:
        raise CalibrationError(f'calibration file {path}: {error.strerror}') from error
    except CalibrationError as error:
        raise CalibrationError(f'calibration file {path}: {error}') from error


def _calibration_in(data: bytes) -> Calibration:
    text = _text(data)
    if text.lstrip().startswith('<'):
        return calibration_of(_xml(text))
    if re.search(r'^\s*\[image\]', text, re.MULTILINE):
        return calibration_of_lines(text.splitlines())
    return calibration_of(_yaml(text))


def _text(data: bytes) -> str:
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # Windows PowerShell's `>`
        if data.startswith(mark):
            data = data.decode('utf-16', 'replace').encode()
    if len(data) > _MAX_BYTES or b'\0' in data:
        raise CalibrationError('expected a text file of a calibration, YAML for instance')
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError:
        return data.decode('cp1252', 'replace')  # a comment in Latin-1


def _yaml(text: str) -> Any:
    # OpenCV 4 starts with %YAML:1.0, which is not valid YAML.
    text = re.sub(r'\A%YAML.*', '', text.lstrip()).expandtabs(2)
    try:
        # Read all values as text and ignore tags, such as dates and !!opencv-matrix.
        documents = yaml.load_all(text, yaml.BaseLoader)
        # `ros2 topic echo` ends with ---, and without --once there are several.
        return next((document for document in documents if document), None)
    except (yaml.YAMLError, RecursionError) as error:
        problem = ' '.join(str(error).split())
        raise CalibrationError(f'expected YAML ({problem})') from error


def _xml(text: str) -> dict[str, Any]:
    flags = cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY | cv2.FILE_STORAGE_FORMAT_XML
    try:
        storage = cv2.FileStorage(text, flags)  # its nodes are useless without it
        root = storage.root()
        return {key: _value(root.getNode(key)) for key in root.keys()}  # noqa: SIM118
    except (cv2.error, SystemError) as error:
        raise CalibrationError("expected XML as OpenCV's FileStorage writes it") from error


def _value(node: cv2.FileNode) -> Any:
    if node.isMap():
        matrix = node.mat()
        if matrix is None:
            return {key: _value(node.getNode(key)) for key in node.keys()}  # noqa: SIM118
        return {'rows': matrix.shape[0], 'cols': matrix.shape[1], 'data': matrix.ravel().tolist()}
    if node.isSeq():
        return [_value(node.at(i)) for i in range(node.size())]
    return node.real() if node.isReal() or node.isInt() else node.string()
