# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration files of camera_calibration: fields, and what is wrong with them."""

import math

import pytest
import yaml

from face_pose_ros.calibration import CalibrationError, load_calibration

# In the form that camera_calibration_parsers writes, numbers without a point included.
TEXT = """\
image_width: 1280
image_height: 720
camera_name: narrow_stereo/left
camera_matrix:
  rows: 3
  cols: 3
  data: [911, 0, 655.25, 0, 905.5, 348.75, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.31, 0.12, -4e-05, 1e-3, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [820, 0, 660, 0, 0, 860, 350, 0, 0, 0, 1, 0]
binning_x: 0
binning_y: 0
roi:
  x_offset: 0
  y_offset: 0
  height: 0
  width: 0
  do_rectify: false
"""


def write(tmp_path, text: str):
    path = tmp_path / 'camera.yaml'
    path.write_text(text)
    return path


def changed(**fields) -> str:
    """The file with some fields replaced, and those that are None left out."""
    document = {**yaml.safe_load(TEXT), **fields}
    return yaml.safe_dump({k: v for k, v in document.items() if v is not None})


def test_fields_arrive_as_they_are_written(tmp_path):
    calibration = load_calibration(write(tmp_path, TEXT))
    assert (calibration.width, calibration.height) == (1280, 720)
    assert calibration.distortion_model == 'plumb_bob'
    assert calibration.d == (-0.31, 0.12, -0.00004, 0.001, 0.0)
    assert calibration.k == (911.0, 0.0, 655.25, 0.0, 905.5, 348.75, 0.0, 0.0, 1.0)
    assert calibration.r == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert calibration.p[:8] == (820.0, 0.0, 660.0, 0.0, 0.0, 860.0, 350.0, 0.0)


def test_a_file_without_a_model_is_plumb_bob(tmp_path):
    path = write(tmp_path, changed(distortion_model=None))
    assert load_calibration(path).distortion_model == 'plumb_bob'


def test_another_model_and_a_column_of_coefficients(tmp_path):
    d = {'rows': 4, 'cols': 1, 'data': [0.1, 0.2, 0.3, 0.4]}
    path = write(tmp_path, changed(distortion_model='equidistant', distortion_coefficients=d))
    calibration = load_calibration(path)
    assert calibration.distortion_model == 'equidistant'
    assert calibration.d == (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'expected a YAML file as camera_calibration writes it'),
        ('- 1', 'expected a YAML file as camera_calibration writes it'),
        ('{a: [', 'expected YAML'),
        (changed(image_width=None), 'image_width is None, expected a positive whole number'),
        (changed(image_height=-720), 'image_height is -720, expected a positive whole number'),
        (changed(image_height='720p'), 'image_height is 720p, expected a positive whole number'),
        (
            changed(camera_matrix=None),
            'camera_matrix is None, expected rows, cols and data of 3x3',
        ),
        (changed(camera_matrix=[1.0] * 8), 'camera_matrix has 8 numbers, expected 3x3'),
        (changed(camera_matrix='K'), 'camera_matrix is K, expected rows, cols and data of 3x3'),
        (changed(binning_x=2), 'binning 2 x 0 and a region of interest of 0 x 0 px of 1280 x 720'),
        (
            changed(roi={'width': 640, 'height': 480}),
            'region of interest of 640 x 480 px of 1280 x 720 px, expected K and size',
        ),
        ('!!python/object/apply:os.getcwd []', 'expected a YAML file as camera_calibration'),
        (
            changed(camera_matrix={'rows': 3, 'cols': 3, 'data': [1.0] * 8}),
            'camera_matrix has rows 3, cols 3 and 8 numbers, expected .* 3x3',
        ),
        (
            changed(projection_matrix={'rows': 3, 'cols': 3, 'data': [1.0] * 9}),
            'projection_matrix has rows 3, cols 3 and 9 numbers, expected .* 3x4',
        ),
        (
            changed(distortion_coefficients={'rows': 1, 'cols': 5}),
            'data of distortion_coefficients is None',
        ),
        (
            changed(distortion_coefficients={'cols': 5, 'data': [0.0] * 5}),
            'distortion_coefficients has rows None, cols 5 and 5 numbers',
        ),
        (
            changed(rectification_matrix={'rows': 3, 'cols': 3, 'data': ['x'] * 9}),
            'data of rectification_matrix is .*, expected 3x3 numbers',
        ),
        (
            changed(camera_matrix={'rows': 3, 'cols': 3, 'data': [math.nan] * 9}),
            'data of camera_matrix is .*, expected finite numbers',
        ),
    ],
)
def test_a_bad_file_is_one_line_with_file_and_field(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(CalibrationError, match=message) as error:
        load_calibration(path)
    assert str(error.value).startswith(f'calibration file {path}: ')
    assert '\n' not in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(CalibrationError, match=r'nix\.yaml: No such file'):
        load_calibration(tmp_path / 'nix.yaml')
    (tmp_path / 'picture.yaml').write_bytes(b'\xff\xd8\xff\0')
    with pytest.raises(CalibrationError, match=r'picture\.yaml: expected a text file'):
        load_calibration(tmp_path / 'picture.yaml')
