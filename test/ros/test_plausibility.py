# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrations that are valid but implausible for the camera of the images."""

import re

import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from sensor_msgs.msg import CameraInfo

from face_pose_ros.ros.camera_info import camera_from_info
from face_pose_ros.ros.plausibility import Finding, News, findings

WIDTH, HEIGHT = 1280, 720
FX, FY, CX, CY = 905.0, 898.0, 655.25, 348.75
D = (-0.31, 0.12, -0.0004, 0.001, 0.0)


def info_msg(fx=FX, fy=FY, cx=CX, cy=CY, tx=0.0, d=D, p=None, **fields) -> CameraInfo:
    defaults = {
        'width': WIDTH,
        'height': HEIGHT,
        'distortion_model': 'plumb_bob',
        'd': list(d),
        'k': [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        'p': p or [820.0, 0.0, cx, tx, 0.0, 860.0, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    }
    return CameraInfo(**{**defaults, **fields})


def found(info: CameraInfo, rectified=False, topic='/cam/image', frame='cam') -> list[Finding]:
    return findings(info, camera_from_info(info, rectified), rectified, topic, frame)


def only(info: CameraInfo, **how) -> Finding:
    (finding,) = found(info, **how)
    return finding


@pytest.mark.parametrize('rectified', [False, True])
def test_an_ordinary_calibration_is_nothing_to_tell_of(rectified):
    assert found(info_msg(), rectified) == []


def test_a_lens_that_ends_inside_the_image():
    # r (1 - r^2 / 2) grows up to r = sqrt(2 / 3), which is seen 2/3 as far off: at 381 px.
    finding = only(info_msg(700.0, 700.0, 639.5, 359.5, d=(-0.5, 0, 0, 0, 0)))
    assert finding.key == 'pixels without ray'
    assert f'{finding.value} of the image has no ray' in finding.text
    u, v = np.meshgrid(np.arange(WIDTH) - 639.5, np.arange(HEIGHT) - 359.5)
    percent = 100 * np.mean(np.hypot(u, v) > 700 * 2 / 3 * (2 / 3) ** 0.5)
    assert float(finding.value.removesuffix(' %')) == pytest.approx(percent, abs=1.5)
    nearest, beyond = map(float, re.findall(r'(\d+) px', finding.text))
    assert nearest == pytest.approx(381, abs=25)
    assert beyond == pytest.approx(np.hypot(639.5, 359.5) - 381, abs=25)


@pytest.mark.parametrize(
    ('model', 'd'),
    [
        ('rational_polynomial', (-0.5, 0, 0, 0, 0, 0.02, 0, 0)),
        ('equidistant', (-1.6, 0, 0, 0)),
        ('plumb_bob', (0.1, -0.9, 0, 0, 0)),
    ],
)
def test_other_lenses_that_end_inside_the_image(model, d):
    finding = only(info_msg(700.0, 705.0, d=d, distortion_model=model))
    assert finding.key == 'pixels without ray'


@pytest.mark.parametrize(('cx', 'cy'), [(300.0, CY), (1000.0, CY), (CX, 170.0), (CX, 700.0)])
def test_a_principal_point_outside_the_middle_half(cx, cy):
    finding = only(info_msg(cx=cx, cy=cy))
    assert finding.key == 'principal point'
    assert f'({cx:.0f}, {cy:.0f}) of 1280 x 720 px' in finding.value


@pytest.mark.parametrize('scale', [0.25, 0.5, 0.667, 1.5, 2.0])
def test_a_k_of_another_resolution(scale):
    info = info_msg(scale * FX, scale * FY, scale * CX, scale * CY, d=())
    finding = only(info)
    assert finding.key == 'resolution'
    assert f'K fits an image of {2 * scale * CX + 1:.0f} x' in finding.text


def test_a_k_that_is_binned_already():
    half = info_msg(FX / 2, FY / 2, CX / 2, CY / 2, d=())
    half.binning_x = half.binning_y = 2
    finding = only(half)
    assert finding.key == 'binning'
    assert 'binning is applied twice' in finding.text
    whole = info_msg(binning_x=2, binning_y=2)
    assert found(whole) == []


@pytest.mark.parametrize(('f', 'fov'), [(9000.0, '8.1 x 4.6'), (40.0, '172.8 x 167.3'), (4.5, '')])
def test_a_field_of_view_that_no_pinhole_has(f, fov):
    finding = only(info_msg(f, f, d=()))
    assert finding.key == 'field of view [deg]'
    assert fov in finding.value


def test_a_fisheye_may_see_more():
    info = info_msg(400.0, 400.0, d=(0.0, 0.0, 0.0, 0.0), distortion_model='equidistant')
    assert found(info) == []


def test_a_baseline_is_reported_unless_the_frame_is_the_second_cameras():
    info = info_msg(tx=-98.4)
    finding = only(info, frame='stereo_left_optical')
    assert (finding.key, finding.value) == ('stereo baseline [m]', '0.120')
    assert "If frame 'stereo_left_optical' is the first camera" in finding.text
    for frame in ('stereo_right_optical', 'camera_infra2_optical_frame'):
        assert found(info, frame=frame) == []
    # librealsense's wrapper: the picture's frame is the right one's, the CameraInfo's the left's.
    info.header.frame_id = 'infra1_optical'
    assert found(info, frame='infra_b_optical') == []
    assert only(info, frame='infra1_optical').key == 'stereo baseline [m]'


def test_distortion_of_images_that_are_called_rectified():
    finding = only(info_msg(), topic='/camera/depth/image_rect_raw')
    assert finding.key == 'rectified'
    assert 'set image_is_rectified:=true' in finding.text
    assert found(info_msg(d=()), topic='/camera/image_rect') == []
    # As image_proc has it: K and D of the lens, P of the rectified pictures.
    assert found(info_msg(), rectified=True, topic='/camera/image_rect') == []


def test_images_that_are_declared_rectified_but_probably_are_not():
    finding = only(info_msg(), rectified=True, topic='/camera/image_raw/compressed')
    assert finding.key == 'rectified'
    assert 'named raw' in finding.text
    repeated = [FX, 0.0, CX, 0.0, 0.0, FY, CY, 0.0, 0.0, 0.0, 1.0, 0.0]
    finding = only(info_msg(p=repeated), rectified=True)
    assert finding.value == 'D is not zero, P equals K'


def test_an_empty_frame():
    finding = only(info_msg(), frame='')
    assert (finding.key, finding.value) == ('frame_id', 'empty')
    assert 'no TF is sent' in finding.text


def test_a_finding_is_reported_once_and_few_per_key():
    news = News(most=2)
    values = 'abacd'
    reported = [
        [f.value for f in news.among([Finding('size', v, ''), Finding('frame', '', '')])]
        for v in values
    ]
    assert reported == [['a', ''], ['b'], [], [], []]


@pytest.mark.parametrize(
    ('model', 'd', 'is_odd'),
    [
        ('plumb_bob', [0.33, -0.04, 0, 0, 0, 0.66, -0.01, -0.009], True),
        ('plumb_bob', [0.33, -0.04, 0, 0, 0.01, 0, 0, 0], False),
        ('rational_polynomial', [0.33, -0.04, 0, 0, 0, 0.66, -0.01, -0.009], False),
        ('rational_polynomial', [0.1] + [0.0] * 12 + [0.001], True),
        ('', [0.1, 0.0, 0.0, 0.0], True),
        ('radtan', [0.1, 0.0, 0.0, 0.0], False),
    ],
)
def test_more_coefficients_than_the_name_has(model, d, is_odd):
    found_keys = [finding.key for finding in found(info_msg(d=d, distortion_model=model))]
    assert found_keys == (['distortion model'] if is_odd else [])
