# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera models against OpenCV, finite differences and their own inverse."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.cameras import DISTORTIONS, HEIGHT, WIDTH, K, make_camera
from hypothesis import given, settings
from hypothesis import strategies as st

from face_pose_ros.geometry.camera import Camera

SKEW = np.array([[0, -2.7, 0], [0, 0, 0], [0, 0, 0]])
CAMERAS = {
    **{name: make_camera(name) for name in DISTORTIONS},
    'skewed_tilted_14': replace(make_camera('tilted_14'), K=K + SKEW),
    'skewed_equidistant': replace(make_camera('equidistant'), K=K + SKEW),
}


def pixels_over_image(camera: Camera, step: int = 24) -> np.ndarray:
    u, v = np.meshgrid(np.arange(0, camera.width, step), np.arange(0, camera.height, step))
    return np.stack([u, v], -1).reshape(-1, 2).astype(float)


def opencv_pixels(camera: Camera, xyz: np.ndarray) -> np.ndarray:
    """OpenCV's image of points (P, 3); of the polynomial model its skew is ours."""
    points, none = xyz[:, None], np.zeros(3)
    skew = camera.K[0, 1]
    if camera.distortion_model == 'equidistant':
        uv, _ = cv2.fisheye.projectPoints(
            points, none, none, camera.K, camera.dist, alpha=skew / camera.fx
        )
        return uv[:, 0]
    straight = camera.K * [[1, 0, 1], [0, 1, 1], [0, 0, 1]]
    uv, _ = cv2.projectPoints(points, none, none, straight, camera.dist)
    u, v = uv[:, 0].T
    return np.stack([u + skew * (v - camera.cy) / camera.fy, v], -1)


@pytest.mark.parametrize('name', CAMERAS)
def test_project_equals_opencv_over_the_whole_image(name, rng):
    camera = CAMERAS[name]
    rays, valid = camera.unproject(pixels_over_image(camera, 8))
    assert valid.all()
    xyz = rays * rng.uniform(0.3, 5, (len(rays), 1))
    uv, valid, _ = camera.project(xyz)
    assert valid.all()
    np.testing.assert_allclose(uv, opencv_pixels(camera, xyz), atol=1e-9)


@given(
    st.sampled_from([0, 4, 5, 8, 12, 14]),
    st.lists(st.floats(-1, 1), min_size=14, max_size=14),
    st.floats(0.02, 0.9),
)
@settings(max_examples=150, deadline=None)
def test_any_lens_is_opencvs_within_its_range_and_inverted(count, draws, part):
    scale = [0.5, 0.3, 0.01, 0.01, 0.1, 0.5, 0.3, 0.1, 0.01, 0.01, 0.01, 0.01, 0.2, 0.2]
    camera = Camera.from_K(K, WIDTH, HEIGHT, (np.array(draws) * scale)[:count])
    angle = np.linspace(0, 2 * np.pi, 40)
    radius = part * min(camera.range_max, 1.5)
    xyz = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.ones(40)], -1)
    uv, valid, _ = camera.project(xyz)
    expected = opencv_pixels(camera, xyz)
    np.testing.assert_allclose(uv[valid], expected[valid], rtol=1e-12, atol=1e-9)
    again, found, _ = camera.project(camera.unproject(uv).rays)
    np.testing.assert_allclose(again[found], uv[found], rtol=1e-11, atol=1e-8)


@pytest.mark.parametrize('name', CAMERAS)
def test_the_jacobian_is_the_derivative(name, rng):
    camera = CAMERAS[name]
    xyz = 0.2 * rng.normal(size=(7, 3)) + [0, 0, 0.7]
    xyz[0, :2] = 0  # the optical axis, where the fisheye formula is 0 / 0
    _, valid, J = camera.project(xyz, jacobian=True)
    assert valid.all()
    step = 1e-6
    for i, d in enumerate(step * np.eye(3)):
        change = (camera.project(xyz + d).uv - camera.project(xyz - d).uv) / (2 * step)
        np.testing.assert_allclose(J[..., i], change, rtol=1e-7, atol=2e-5)


@pytest.mark.parametrize('name', CAMERAS)
def test_unproject_inverts_project_over_the_whole_image(name):
    camera = CAMERAS[name]
    uv = pixels_over_image(camera)
    rays, valid = camera.unproject(uv)
    assert valid.all()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1)
    np.testing.assert_allclose(camera.project(3.7 * rays).uv, uv, atol=1e-9)


@pytest.mark.parametrize('name', CAMERAS)
def test_behind_the_camera_is_invalid_and_finite(name):
    uv, valid, J = CAMERAS[name].project(
        [[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.1, 0.0, 0.0]], jacobian=True
    )
    assert not valid[:2].any()
    assert np.isfinite(uv).all()
    assert np.isfinite(J).all()


def test_fisheye_sees_beyond_ninety_degrees():
    camera = Camera.from_K(K, WIDTH, HEIGHT, (0, 0, 0, 0), 'equidistant')
    angle = math.radians(110)
    xyz = [math.sin(angle), 0, math.cos(angle)]
    uv, valid, _ = camera.project(xyz)
    assert valid
    assert uv[0] == pytest.approx(497.3 + 711.0 * angle)
    np.testing.assert_allclose(camera.unproject(uv).rays, xyz, atol=1e-7)


@pytest.mark.parametrize('skew', [0, -2.7])
@pytest.mark.parametrize('tilt', [(), (0, 0, 0, 0, 0, 0, 0, 0, 0.02, -0.03)])
def test_outside_the_monotone_range_is_invalid_never_wrong(skew, tilt):
    # r (1 - 0.5 r^2) grows up to r = sqrt(2 / 3) and then folds back.
    camera = Camera.from_K(K + SKEW * skew / -2.7, WIDTH, HEIGHT, (-0.5, 0, 0, 0, *tilt))
    turn = math.sqrt(2 / 3)
    assert camera.range_max == pytest.approx(turn)
    radius = turn * np.array([0.95, 0.999, 1.001, 1.3])
    for angle in (0.3, 2.9):
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        uv, valid, _ = camera.project(np.stack([x, y, np.ones(4)], -1))
        assert valid.tolist() == [True, True, False, False]
        # The distorted radius never exceeds its value at the turn: no direction beyond.
        middle = camera.project([0, 0, 1]).uv
        _, valid = camera.unproject([uv[0], middle + 1.1 * (uv[0] - middle)])
        assert valid.tolist() == [True, False]


def test_where_tangential_terms_fold_the_picture_is_invalid():
    camera = Camera.from_K(K, WIDTH, HEIGHT, (0, 0, 0.4, 0))
    # y + 3 * 0.4 y^2 falls below y = -1 / 2.4.
    _, valid, _ = camera.project([[0, -0.40, 1], [0, -0.43, 1]])
    assert valid.tolist() == [True, False]


def test_resize_moves_the_pixel_centres():
    camera = CAMERAS['skewed_tilted_14']
    small = camera.resize(320, 180)
    xyz = [[0.21, -0.13, 1.7]]
    expected = (camera.project(xyz).uv + 0.5) * [320 / WIDTH, 180 / HEIGHT] - 0.5
    np.testing.assert_allclose(small.project(xyz).uv, expected, rtol=1e-12)
    assert (small.width, small.height) == (320, 180)


def test_crop_shifts_the_principal_point():
    camera = make_camera('rational_8')
    part = camera.crop(31, 57, 640, 480)
    xyz = [[0.21, -0.13, 1.7]]
    np.testing.assert_allclose(part.project(xyz).uv, camera.project(xyz).uv - [31, 57])
    assert (part.width, part.height) == (640, 480)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'K': np.zeros((3, 3))}, 'not calibrated: the focal lengths in K are 0'),
        ({'K': np.diag([0, 0, 1])}, 'not calibrated'),
        ({'K': np.eye(2)}, '9 numbers'),
        ({'K': K * [[1], [-1], [1]]}, 'positive focal lengths'),
        ({'K': K + np.array([[0, 0, 0], [2, 0, 0], [0, 0, 0]])}, r'K must be \[\[fx, skew'),
        ({'K': 2 * K}, r'K must be \[\[fx, skew'),
        ({'K': K * np.nan}, 'finite'),
        ({'K': K * [[1], [1e7], [1]]}, 'no calibration of an image of 960 x 720'),
        ({'width': 0}, 'size must be positive'),
        ({'dist': (1, 2, 3)}, 'takes 0, 4, 5, 8, 12 or 14 coefficients, got 3'),
        ({'dist': np.ones(15)}, 'coefficients, got 15'),
        (
            {'dist': np.ones(5), 'distortion_model': 'fisheye'},
            "'fisheye' takes 0 or 4 coefficients, got 5",
        ),
        ({'dist': (0, 0, 0, np.inf)}, 'must be finite'),
        (
            {'distortion_model': 'double_sphere'},
            "'double_sphere' is not known; .*plumb_bob, ",
        ),
    ],
)
def test_bad_calibration_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_K(**{'K': K, 'width': WIDTH, 'height': HEIGHT, **kwargs})


@pytest.mark.parametrize('size', [(0, 480), (-640, 480), (640, 479.5), (640, np.inf)])
def test_an_image_size_is_whole_and_positive(size):
    camera = Camera.from_fov(640.0, np.int32(480), 60)
    assert camera == Camera.from_fov(640, 480, 60)
    for make in (
        lambda: Camera.from_fov(*size, 60),
        lambda: Camera.from_K(K, *size),
        lambda: camera.resize(*size),
        lambda: camera.crop(3, 5, *size),
    ):
        with pytest.raises(ValueError, match='size must be positive and whole, got '):
            make()


@pytest.mark.parametrize('model', ['plumb_bob', 'fisheye'])
def test_no_distortion_may_be_none_as_in_opencv(model):
    camera = Camera.from_K(K, WIDTH, HEIGHT, None, model)
    expected = Camera.from_K(K, WIDTH, HEIGHT, (), model)
    uv = [[700.5, 30.25]]
    np.testing.assert_array_equal(camera.unproject(uv)[0], expected.unproject(uv)[0])


@pytest.mark.parametrize(
    'error', [[[0, 1e-13, 0], [0, 0, 0], [0, 0, 1e-12]], [[0, 0, 0], [1e-13, 0, 0], [1e-14, 0, 0]]]
)
def test_measured_numbers_need_not_be_exact(error):
    camera = Camera.from_K(K + error, WIDTH, HEIGHT)
    np.testing.assert_allclose(camera.K, K, rtol=0, atol=1e-12)
    assert camera.K[1:, 0].tolist() == [0, 0]


@pytest.mark.parametrize('count', [4, 5, 8, 12, 14])
@pytest.mark.parametrize('name', ['plumb_bob', 'rational_polynomial', 'radtan', 'none', ''])
def test_the_number_of_coefficients_decides_about_the_model(name, count):
    dist = 0.01 * np.arange(1, 15)[:count]
    camera = Camera.from_K(K, WIDTH, HEIGHT, dist, name)
    assert camera.dist.tolist() == [*dist, *[0] * (14 - count)]
    assert camera.distortion_model == ('plumb_bob' if count < 8 else 'rational_polynomial')


@pytest.mark.parametrize('name', ['fisheye', 'Kannala_Brandt4', 'KANNALA_BRANDT', 'opencvFisheye'])
def test_the_fisheye_has_many_names(name):
    camera = Camera.from_K(K, WIDTH, HEIGHT, (0.1, 0.02, 0.003, 0.0004), name)
    assert camera == Camera.from_K(K, WIDTH, HEIGHT, (0.1, 0.02, 0.003, 0.0004), 'equidistant')


def test_trailing_zeros_are_not_coefficients():
    camera = Camera.from_K(K, WIDTH, HEIGHT, [-0.3, 0.1, *[0] * 14], 'plumb_bob')
    assert camera == Camera.from_K(K, WIDTH, HEIGHT, (-0.3, 0.1, 0, 0))
    fisheye = Camera.from_K(K, WIDTH, HEIGHT, [-0.03, 0.01, *[0] * 6], 'equidistant')
    assert fisheye == Camera.from_K(K, WIDTH, HEIGHT, (-0.03, 0.01, 0, 0), 'equidistant')


def test_a_field_of_view_reaches_from_edge_to_edge():
    camera = Camera.from_fov(640, 480, 60)
    left, middle, right = camera.unproject([[-0.5, 239.5], [319.5, 239.5], [639.5, 239.5]]).rays
    assert math.degrees(math.acos(left @ right)) == pytest.approx(60)
    np.testing.assert_allclose(middle, [0, 0, 1], atol=1e-12)
    assert camera.fx == camera.fy


@pytest.mark.parametrize('angle', [0, 180, -3, math.nan])
def test_a_field_of_view_out_of_range_is_refused(angle):
    with pytest.raises(ValueError, match='horizontal_fov_deg must be above 0 and below 180'):
        Camera.from_fov(640, 480, angle)


def test_cameras_are_equal_in_all_that_makes_a_picture():
    camera = make_camera('plumb_bob_5')
    same = make_camera('plumb_bob_5')
    assert camera == same
    assert hash(camera) == hash(same)
    moved = camera.K.copy()
    moved[0, 2] += 1e-9
    for other in (
        make_camera('plumb_bob_4'),
        camera.resize(camera.width // 2, camera.height // 2),
        replace(camera, K=moved),
        make_camera('equidistant'),
        'a camera',
    ):
        assert camera != other


def test_a_camera_is_printed_in_a_line():
    assert repr(make_camera('plumb_bob_4')) == (
        'Camera(960 x 720 px, fx 711, fy 693, cx 497.3, cy 338.1, '
        'plumb_bob [-0.28, 0.09, 0.0011, -0.0007])'
    )
    assert 'skew -2.7' in repr(CAMERAS['skewed_equidistant'])
    assert repr(Camera.from_fov(640, 480, 90)) == (
        'Camera(640 x 480 px, fx 320, fy 320, cx 319.5, cy 239.5)'
    )


def test_a_camera_keeps_its_numbers():
    given = K.copy()
    camera = Camera.from_K(given, WIDTH, HEIGHT)
    given[0, 0] = 1
    assert camera.fx == 711
    for array in (camera.K, camera.dist):
        with pytest.raises(ValueError, match='read-only'):
            array[0] = 1


@pytest.mark.parametrize('shape', [(3,), (0, 3), (4, 3), (2, 5, 3)])
def test_points_of_any_shape_are_taken_as_they_are(shape, rng):
    camera = make_camera('plumb_bob_5')
    xyz = rng.normal(size=shape) * 0.1 + [0, 0, 2]
    xyz.flags.writeable = False
    uv, valid, J = camera.project(xyz, jacobian=True)
    assert (uv.shape, valid.shape, J.shape) == (
        (*shape[:-1], 2),
        shape[:-1],
        (*shape[:-1], 2, 3),
    )
    backwards = np.ascontiguousarray(xyz.astype(np.float32)[..., ::-1])[..., ::-1]
    np.testing.assert_allclose(camera.project(backwards).uv, uv, atol=1e-3)
    rays, valid = camera.unproject(uv)
    assert (rays.shape, valid.shape) == (shape, shape[:-1])


def test_points_of_a_wrong_shape_are_refused():
    camera = make_camera()
    with pytest.raises(ValueError, match=r'xyz_cam must have the shape \(..., 3\), got \(3, 2\)'):
        camera.project(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r'uv must have the shape \(..., 2\), got \(\)'):
        camera.unproject(3.0)
