# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration files as other tools write them; numbers are those of no real camera."""

import re

import cv2
import numpy as np
import pytest

from face_pose_ros.calibration import Calibration, CalibrationError, load_calibration

WIDTH, HEIGHT = 640, 480
K = (611.2, 0.0, 322.9, 0.0, 612.8, 236.4, 0.0, 0.0, 1.0)
D = (0.072, -0.181, 0.0009, 0.0011, 0.0)
R = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
P = (601.5, 0.0, 323.0, 0.0, 0.0, 603.25, 235.5, 0.0, 0.0, 0.0, 1.0, 0.0)
P_OF_K = (611.2, 0.0, 322.9, 0.0, 0.0, 612.8, 236.4, 0.0, 0.0, 0.0, 1.0, 0.0)
WHOLE = Calibration(WIDTH, HEIGHT, 'plumb_bob', D, K, R, P)
MATRICES = (
    ('camera_matrix', 3, 3, K),
    ('distortion_coefficients', 1, 5, D),
    ('rectification_matrix', 3, 3, R),
    ('projection_matrix', 3, 4, P),
)


@pytest.fixture
def load(tmp_path):
    def load_text(content: str | bytes, name: str = 'camera.yaml') -> Calibration:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_calibration(path)

    return load_text


def ros_text(first_line='', tag='', dt='', indent='  ', comment='') -> str:
    text = f'{first_line}{comment}image_width: {WIDTH}\nimage_height: {HEIGHT}\n'
    text += 'camera_name: cam\ndistortion_model: plumb_bob\n'
    for name, rows, cols, data in MATRICES:
        numbers = ', '.join(f'{number:g}' if number % 1 else f'{number:.0f}.' for number in data)
        text += f'{name}:{tag}\n{indent}rows: {rows}\n{indent}cols: {cols}\n{dt}'
        text += f'{indent}data: [ {numbers} ]\n'
    return text


@pytest.mark.parametrize(
    'text',
    [
        ros_text('%YAML:1.0\n---\n'),
        ros_text(tag=' !!opencv-matrix', dt='  dt: d\n'),
        ros_text('%YAML:1.0\n---\n', ' !!opencv-matrix', '  dt: d\n'),
        ros_text('%YAML 1.2\n---\n', ' !!opencv-matrix', '  dt: d\n'),
        ros_text(indent='\t'),
        ros_text().replace(': ', ':\t'),
        ros_text().replace('\n', '\r\n'),
        '\ufeff' + ros_text(),
        ros_text(comment='# f\xfcr die K\xfcche\n').encode('latin-1'),
        ros_text(comment='# \u201ckitchen\u201d\n').encode('cp1252'),
        ros_text().encode('utf-16'),  # what PowerShell's > makes of any text
        ros_text() + 'calibration_date: 2024-13-45\n',
        re.sub(r'(image_\w+: \d+)', r'\1.', ros_text()),
    ],
    ids=[
        'first line of OpenCV 4',
        'tags',
        'OpenCV 4',
        'OpenCV 5',
        'tabs in front',
        'tabs between',
        'Windows',
        'byte order mark',
        'Latin-1',
        'Windows-1252',
        'UTF-16',
        'no date',
        'size as OpenCV writes a float',
    ],
)
def test_dialects_of_the_yaml_of_ros(load, text):
    assert load(text) == WHOLE


@pytest.mark.parametrize('suffix', ['.yml', '.xml', '.json'])
def test_what_opencv_writes(tmp_path, suffix):
    path = tmp_path / f'camera{suffix}'
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write('calibration_time', 'Mon Nov 30 08:34:34 2026')
    storage.write('image_width', WIDTH)
    storage.write('image_height', HEIGHT)
    storage.write('board_width', 9)
    for name, rows, cols, data in MATRICES[:2]:
        storage.write(name, np.reshape(data, (rows, cols)))
    storage.release()
    assert load_calibration(path) == Calibration(WIDTH, HEIGHT, 'plumb_bob', D, K, R, P_OF_K)


def test_opencvs_sample_has_a_fisheye_flag(load):
    text = (
        f'%YAML:1.0\n---\nimage_width: {WIDTH}\nimage_height: {HEIGHT}\nfisheye_model: 1\n'
        f'camera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n   data: {list(K)}\n'
        'distortion_coefficients: !!opencv-matrix\n   rows: 4\n   cols: 1\n   dt: d\n'
        f'   data: {list(D[:4])}\n'
    )
    assert load(text) == Calibration(WIDTH, HEIGHT, 'equidistant', D[:4], K, R, P_OF_K)
    assert load(ros_text() + 'fisheye_model: 0\n') == WHOLE


def test_names_of_opencvs_first_sample(load):
    text = ros_text().replace('image_width', 'image_Width').replace('image_height', 'image_Height')
    text = text.replace('camera_matrix', 'Camera_Matrix')
    assert load(text.replace('distortion_coeff', 'Distortion_Coeff')) == WHOLE


def test_an_old_file_of_ros_calls_the_model_the_cameras(load):
    assert load(ros_text().replace('distortion_model', 'camera_model')) == WHOLE


def test_matrices_as_lists(load):
    text = (
        f'image_width: {WIDTH}\nimage_height: {HEIGHT}\n'
        f'camera_matrix: {[list(K[i : i + 3]) for i in (0, 3, 6)]}\n'
        f'distortion_coefficients: {[list(D)]}\n'
    )
    assert load(text) == Calibration(WIDTH, HEIGHT, 'plumb_bob', D, K, R, P_OF_K)


def echo_text(names='dkrp', flow=False) -> str:
    """Output of `ros2 topic echo --once camera_info`; ROS 1 has capital letters."""
    text = (
        f'header:\n  stamp:\n    sec: 1\n    nanosec: 2\n  frame_id: optical\nheight: {HEIGHT}\n'
    )
    text += f'width: {WIDTH}\ndistortion_model: plumb_bob\n'
    for name, data in zip(names, (D, K, R, P), strict=True):
        text += f'{name}: {list(data)}\n' if flow else f'{name}:\n'
        text += '' if flow else ''.join(f'- {number}\n' for number in data)
    text += 'binning_x: 0\nbinning_y: 0\nroi:\n  x_offset: 0\n  y_offset: 0\n  height: 0\n'
    return text + '  width: 0\n  do_rectify: false\n---\n'


@pytest.mark.parametrize(
    'text', [echo_text(), echo_text(flow=True), echo_text('DKRP', flow=True), echo_text() * 2]
)
def test_a_camera_info_as_it_is_printed(load, text):
    assert load(text) == WHOLE


def test_a_printed_camera_info_of_a_part_of_the_sensor_is_refused(load):
    with pytest.raises(CalibrationError, match='binning 2 x 0 and a region of interest'):
        load(echo_text().replace('binning_x: 0', 'binning_x: 2'))


def kalibr_text(camera='pinhole', distortion='radtan', block='cam0') -> str:
    return (
        f'{block}:\n  cam_overlaps: []\n  camera_model: {camera}\n'
        '  distortion_coeffs: [0.072, -0.181, 0.0009, 0.0011]\n'
        f'  distortion_model: {distortion}\n  intrinsics: [611.2, 612.8, 322.9, 236.4]\n'
        f'  resolution: [{WIDTH}, {HEIGHT}]\n  rostopic: /cam0/image_raw\n'
    )


@pytest.mark.parametrize(
    ('distortion', 'model', 'd'),
    [
        ('radtan', 'plumb_bob', D[:4]),
        ('equidistant', 'equidistant', D[:4]),
        ('none', 'plumb_bob', ()),
    ],
)
def test_a_camchain_of_kalibr(load, distortion, model, d):
    calibration = load(kalibr_text(distortion=distortion))
    assert calibration == Calibration(WIDTH, HEIGHT, model, d, K, R, P_OF_K)


def test_a_sensor_of_euroc(load):
    text = (
        'sensor_type: camera\ncomment: VI-Sensor\nT_BS:\n  cols: 4\n  rows: 4\n'
        f'rate_hz: 20\nresolution: [{WIDTH}, {HEIGHT}]\ncamera_model: pinhole\n'
        'intrinsics: [611.2, 612.8, 322.9, 236.4]\ndistortion_model: radial-tangential\n'
        'distortion_coefficients: [0.072, -0.181, 0.0009, 0.0011]\n'
    )
    assert load(text) == Calibration(WIDTH, HEIGHT, 'plumb_bob', D[:4], K, R, P_OF_K)


@pytest.mark.parametrize(
    ('camera', 'distortion'),
    [('omni', 'radtan'), ('eucm', 'none'), ('ds', 'none'), ('pinhole', 'fov')],
)
def test_lenses_of_kalibr_that_opencv_has_not_are_refused_by_name(load, camera, distortion):
    expected = (
        f"Kalibr with camera_model '{camera}' and distortion_model '{distortion}', expected "
        'pinhole .* calibrate with --models pinhole-radtan'
    )
    with pytest.raises(CalibrationError, match=expected):
        load(kalibr_text(camera, distortion))


def test_a_camchain_of_several_cameras_is_refused(load):
    with pytest.raises(CalibrationError, match=r'several cameras \(cam0, cam1, .*, expected one'):
        load(kalibr_text() + kalibr_text(block='cam1'))


def test_rows_and_cols_of_p_exchanged_as_a_driver_has_them(load):
    assert load(ros_text().replace('rows: 3\n  cols: 4', 'rows: 4\n  cols: 3')) == WHOLE


@pytest.mark.parametrize(
    ('model', 'text', 'expected'),
    [
        (
            'PINHOLE',
            'distortion_parameters:\n   k1: 0.072\n   k2: -0.181\n   p1: 0.0009\n   p2: 0.0011\n'
            'projection_parameters:\n   fx: 611.2\n   fy: 612.8\n   cx: 322.9\n   cy: 236.4\n',
            'plumb_bob',
        ),
        (
            'KANNALA_BRANDT',
            'projection_parameters:\n   k2: 0.072\n   k3: -0.181\n   k4: 0.0009\n   k5: 0.0011\n'
            '   mu: 611.2\n   mv: 612.8\n   u0: 322.9\n   v0: 236.4\n',
            'equidistant',
        ),
    ],
)
def test_a_camera_of_camodocal(load, model, text, expected):
    head = f'%YAML:1.0\n---\nmodel_type: {model}\nimage_width: {WIDTH}\nimage_height: {HEIGHT}\n'
    assert load(head + text) == Calibration(WIDTH, HEIGHT, expected, D[:4], K, R, P_OF_K)
    with pytest.raises(CalibrationError, match="model_type 'MEI', expected PINHOLE or KANNALA"):
        load((head + text).replace(model, 'MEI'))


def ost_text(distortion=D, camera='[narrow_stereo]') -> str:
    rows = {
        'camera matrix': np.reshape(K, (3, 3)),
        'distortion': np.reshape(distortion, (1, -1)),
        'rectification': np.reshape(R, (3, 3)),
        'projection': np.reshape(P, (3, 4)),
    }
    text = f'# oST version 5.0 parameters\n\n\n[image]\n\nwidth\n{WIDTH}\n\nheight\n{HEIGHT}\n\n'
    text += f'{camera}\n\n'
    for name, matrix in rows.items():
        text += f'{name}\n' + '\n'.join(' '.join(map(str, row)) + ' ' for row in matrix) + '\n\n'
    return text


@pytest.mark.parametrize('name', ['ost.txt', 'camera.ini'])
def test_the_format_of_videre(load, name):
    assert load(ost_text(), name) == WHOLE
    externals = '[externals]\n\ntranslation\n0 0 0\n\nrotation\n0 0 0\n\n'
    assert load(ost_text().replace('[image]', externals + '[image]'), name) == WHOLE


def test_eight_coefficients_in_the_format_of_videre(load):
    d = (0.5, -2.6, 0.0008, -0.0004, 1.5, 0.4, -2.4, 1.4)
    calibration = load(ost_text(d), 'camera.ini')
    assert (calibration.distortion_model, calibration.d) == ('rational_polynomial', d)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (ost_text().split('projection')[0], 'an ost.txt or .ini file without projection'),
        (ost_text(D[:3]), 'distortion has 3 numbers, expected 5 or 8'),
        # camera_calibration writes the four numbers of a fisheye there, without its model.
        (ost_text(D[:4]), "distortion has 4 numbers, a fisheye's, .* expected 5 or 8: .*ost.yaml"),
        (ost_text().replace('0.0 0.0 1.0 \n', '0.0 0.0\n'), 'camera matrix has 8 numbers'),
        (ost_text().replace('640', '640.5'), 'width is 640.5, expected a positive whole number'),
        (
            ost_text() + '[narrow_stereo/right]\n',
            'narrow_stereo, narrow_stereo/right, expected one',
        ),
    ],
)
def test_an_error_for_a_file_of_videre_names_what_is_missing(load, text, message):
    with pytest.raises(CalibrationError, match=message) as error:
        load(text, 'ost.txt')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('Camera.fx: 611.2\nCamera.fy: 612.8\n', 'unknown format .found Camera.fx, Camera.fy'),
        ('<html><body></body></html>', "expected XML as OpenCV's FileStorage writes it"),
        ('<?xml version="1.0"?>\n<opencv_storage>\n<camera_matrix', "XML as OpenCV's FileStorage"),
        (b'\x89PNG\r\n\x1a\n\0\0', 'expected a text file'),
        ('# a film\n' * 200_000, 'expected a text file'),
        (ros_text().replace('611.2', '611,2'), 'camera_matrix has rows 3, cols 3 and 10 numbers'),
        ('a: &a [*a]', 'expected'),
        ('[' * 5000, 'expected YAML'),
    ],
)
def test_whatever_else_comes_is_refused_in_one_line(load, content, message, capfd):
    with pytest.raises(CalibrationError, match=message) as error:
        load(content)
    assert '\n' not in str(error.value)
