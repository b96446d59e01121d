# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras of CameraInfo messages, as drivers send them."""

import numpy as np
import pytest
from helpers.cameras import DISTORTIONS, HEIGHT, WIDTH, K, make_camera

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from benchmarks.fuzz_camera_infos import Case, error_of
from face_pose_ros.ros import camera_info, conversions

HEADER = Header(frame_id='camera_optical')


@pytest.mark.parametrize('name', DISTORTIONS)
def test_camera_info_round_trip(name):
    camera = make_camera(name)
    again = camera_info.camera_from_info(conversions.camera_info_msg(camera, HEADER))
    assert again.distortion_model == camera.distortion_model
    assert (again.width, again.height) == (WIDTH, HEIGHT)
    assert again == camera


def info_msg(**kwargs) -> CameraInfo:
    defaults = {
        'width': WIDTH,
        'height': HEIGHT,
        'k': K.ravel().tolist(),
        'd': [-0.3, 0.1, 0.0, 0.0, 0.0],
        'distortion_model': 'plumb_bob',
        'p': [600.0, 0.0, 470.0, 0.0, 0.0, 590.0, 350.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    }
    return CameraInfo(**{**defaults, **kwargs})


def test_rectified_image_uses_p_without_distortion():
    camera = camera_info.camera_from_info(info_msg(), rectified=True)
    assert camera.K[:2].tolist() == [[600.0, 0, 470.0], [0, 590.0, 350.0]]
    assert not camera.dist.any()


def test_region_of_interest_and_binning():
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=640, height=480)
    camera = camera_info.camera_from_info(info_msg(roi=roi, binning_x=2, binning_y=2))
    assert (camera.width, camera.height) == (320, 240)
    # A point of the full sensor at pixel u lies at (u - offset + 0.5) / 2 - 0.5.
    full = camera_info.camera_from_info(info_msg())
    xyz = [[0.02, 0.01, 1.0]]
    offset = np.array([100.0, 50.0])
    expected = (full.project(xyz).uv - offset + 0.5) / 2 - 0.5
    np.testing.assert_allclose(camera.project(xyz).uv, expected)


def test_binning_of_a_size_it_does_not_divide():
    camera = camera_info.camera_from_info(
        info_msg(width=961, height=723, binning_x=2, binning_y=4)
    )
    assert (camera.width, camera.height) == (480, 180)
    assert (camera.fx, camera.fy) == (711.0 / 2, 693.0 / 4)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'k': [0.0] * 9}, r'K\[0\] is 0: the camera is not calibrated'),
        ({'k': [0.0] * 8 + [1.0]}, r'K\[0\] is 0: the camera is not calibrated'),
        (
            {'roi': RegionOfInterest(x_offset=400, width=600, height=480)},
            'is no part of the 960 x 720 px',
        ),
        ({'roi': RegionOfInterest(width=600)}, '600 x 0 px'),
        ({'k': [1.0] * 9}, r'K must be \[\[fx'),
        ({'k': [float('nan')] * 9}, 'finite'),
        ({'d': [0.1]}, 'takes 0, 4, 5, 8, 12 or 14 coefficients, got 1'),
        ({'distortion_model': 'magic'}, "'magic' is not known"),
        ({'width': 0}, 'size must be positive'),
        (
            {'k': [1e9, 0.0, 0.0, 0.0, 1e9, 0.0, 0.0, 0.0, 1.0]},
            'K is no calibration of an image of 960 x 720 px',
        ),
        ({'binning_x': 1000}, 'binning 1000 x 1 leaves nothing of 960 x 720 px'),
    ],
)
def test_bad_camera_info_is_named(kwargs, message):
    with pytest.raises(camera_info.CameraInfoError, match=message):
        camera_info.camera_from_info(info_msg(**kwargs))


def test_a_missing_p_is_not_called_a_missing_calibration():
    with pytest.raises(camera_info.CameraInfoError, match=r'P\[0\] is 0, but K\[0\] is 711'):
        camera_info.camera_from_info(info_msg(p=[0.0] * 12), rectified=True)


SKEWED = [711.0, -0.6, 470.25, 0.0, 693.0, 351.5, 0.0, 0.0, 1.0]
OF_DRIVERS = {
    'realsense-ros': info_msg(d=[-0.054, 0.065, -0.0003, 0.0007, -0.021]),
    'realsense-ros, fisheye': info_msg(
        distortion_model='equidistant', d=[-0.0022, 0.0376, -0.0364, 0.0059]
    ),
    'Azure_Kinect_ROS_Driver': info_msg(
        distortion_model='rational_polynomial',
        d=[0.71, -2.7, 0.0008, -0.0004, 1.5, 0.59, -2.5, 1.43],
    ),
    'OrbbecSDK_ROS2': info_msg(d=[0.71, -2.7, 0.0008, -0.0004, 1.5, 0.59, -2.5, 1.43]),
    'depthai-ros v3': info_msg(
        distortion_model='rational_polynomial',
        d=[0.33, -0.04, -7e-5, -2e-5, -0.0015, 0.66, -0.01, -0.009, 0, 0, 0, 0, 0.0004, -0.0011],
    ),
    'camera_calibration, fisheye': info_msg(
        distortion_model='equidistant', d=[0.01, -0.004, 0.002, 0.0], k=SKEWED
    ),
    'Foxglove': info_msg(distortion_model='kannala_brandt', d=[0.01, -0.004, 0.002, 0.0]),
    'simulators': info_msg(distortion_model='', d=[]),
}


@pytest.mark.parametrize('driver', OF_DRIVERS)
def test_messages_of_drivers_are_read_as_by_opencv(driver):
    case = Case(OF_DRIVERS[driver], rectified=False, fault='')
    camera = camera_info.camera_from_info(case.info)
    assert camera.unproject([[WIDTH / 2, HEIGHT / 2], [200.0, 100.0]]).valid.all()
    assert error_of(case, camera) <= 1


def test_rectified_images_of_a_calibration_with_skew():
    p = [600.0, -0.6, 470.0, 0.0, 0.0, 590.0, 350.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    case = Case(info_msg(p=p, k=SKEWED), rectified=True, fault='')
    assert error_of(case, camera_info.camera_from_info(case.info, rectified=True)) <= 1
