"""Messages <-> arrays, without a node."""

import array

import cv2
import numpy as np
import pytest
import torch
from helpers.cameras import DISTORTIONS, HEIGHT, WIDTH, K, make_camera

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from face_pose_ros.geometry import so3
from face_pose_ros.results import FacePose
from face_pose_ros.ros import conversions

HEADER = Header(stamp=Time(sec=12, nanosec=345), frame_id='camera_optical')
RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def image_msg(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return Image(
        header=HEADER,
        height=height,
        width=width,
        encoding=encoding,
        step=rows.shape[1],
        data=array.array('B', rows.tobytes()),
    )


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(
    ('encoding', 'pixels', 'expected'),
    [
        ('rgb8', RGB, RGB),
        ('bgr8', RGB, RGB[..., ::-1]),
        ('rgba8', with_alpha(RGB), RGB),
        ('bgra8', with_alpha(RGB), RGB[..., ::-1]),
        ('mono8', RGB[..., :1], np.repeat(RGB[..., :1], 3, axis=2)),
    ],
)
def test_image_to_rgb(encoding, pixels, expected, padding):
    rgb = conversions.image_to_rgb(image_msg(pixels, encoding, padding))
    np.testing.assert_array_equal(rgb, expected)
    # torch refuses some layouts that numpy takes.
    assert torch.as_tensor(rgb).shape == (5, 7, 3)


@pytest.mark.parametrize(
    ('encoding', 'pixels'), [('rgb8', RGB), ('rgba8', with_alpha(RGB)), ('mono8', RGB[..., :1])]
)
def test_no_copy_where_the_layout_allows(encoding, pixels):
    msg = image_msg(pixels, encoding, padding=3)
    before = int(conversions.image_to_rgb(msg)[0, 0, 0])
    rgb = conversions.image_to_rgb(msg)
    msg.data[0] = 255 - before
    assert rgb[0, 0, 0] == 255 - before


def test_last_row_may_lack_its_padding():
    msg = image_msg(RGB, 'rgb8', padding=5)
    del msg.data[-5:]
    np.testing.assert_array_equal(conversions.image_to_rgb(msg), RGB)


def test_other_encodings_go_through_cv_bridge():
    grey = np.full((4, 6, 1), 77, np.uint8)
    rgb = conversions.image_to_rgb(image_msg(grey, 'bayer_rggb8'))
    np.testing.assert_array_equal(rgb, np.full((4, 6, 3), 77))


def truncated() -> Image:
    msg = image_msg(RGB, 'rgb8')
    del msg.data[-1]
    return msg


def with_step(step: int) -> Image:
    msg = image_msg(RGB, 'rgb8')
    msg.step = step
    return msg


@pytest.mark.parametrize(
    ('msg', 'message'),
    [
        (Image(), 'expected a positive size'),
        (truncated(), '104 bytes of data, expected 105'),
        (with_step(20), 'step of 20 bytes, expected at least 21'),
        (image_msg(RGB, 'rgb9'), "encoding 'rgb9'"),
        (image_msg(RGB, ''), "encoding ''"),
        (Image(height=4, width=6, encoding='bayer_rggb8', step=6), "encoding 'bayer_rggb8'"),
        (image_msg(RGB, '32FC1'), "encoding '32FC1'"),
    ],
)
def test_bad_image_is_named(msg, message):
    with pytest.raises(conversions.ImageError, match=message):
        conversions.image_to_rgb(msg)


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
def test_compressed_image(extension):
    smooth = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(extension, smooth[..., ::-1])[1].tobytes()
    rgb = conversions.compressed_image_to_rgb(CompressedImage(format='rgb8', data=data))
    assert rgb.shape == smooth.shape
    limit = 0 if extension == '.png' else 12
    assert np.abs(rgb.astype(int) - smooth).mean() <= limit


@pytest.mark.parametrize('data', [b'', b'no picture', b'\xff\xd8\xff'])
def test_bad_compressed_image_is_named(data):
    with pytest.raises(conversions.ImageError, match="format 'jpeg', expected a JPEG or PNG"):
        conversions.compressed_image_to_rgb(CompressedImage(format='jpeg', data=data))


@pytest.mark.parametrize('name', DISTORTIONS)
def test_camera_info_round_trip(name):
    camera = make_camera(name)
    again = conversions.camera_from_info(conversions.camera_info_msg(camera, HEADER))
    assert again.distortion_model == camera.distortion_model
    assert (again.width, again.height) == (WIDTH, HEIGHT)
    for field in ('f', 'c', 'dist', 'range_max'):
        torch.testing.assert_close(getattr(again, field), getattr(camera, field))


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
    camera = conversions.camera_from_info(info_msg(), rectified=True)
    assert camera.f.tolist() == [600.0, 590.0]
    assert camera.c.tolist() == [470.0, 350.0]
    assert not camera.dist.any()


def test_region_of_interest_and_binning():
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=640, height=480)
    camera = conversions.camera_from_info(info_msg(roi=roi, binning_x=2, binning_y=2))
    assert (camera.width, camera.height) == (320, 240)
    # A point of the full sensor at pixel u lies at (u - offset + 0.5) / 2 - 0.5.
    full = conversions.camera_from_info(info_msg())
    xyz = torch.tensor([[0.02, 0.01, 1.0]], dtype=torch.float64)
    offset = torch.tensor([100.0, 50.0], dtype=torch.float64)
    expected = (full.project(xyz).uv - offset + 0.5) / 2 - 0.5
    torch.testing.assert_close(camera.project(xyz).uv, expected)


def test_binning_of_a_size_it_does_not_divide():
    camera = conversions.camera_from_info(
        info_msg(width=961, height=723, binning_x=2, binning_y=4)
    )
    assert (camera.width, camera.height) == (480, 180)
    assert camera.f.tolist() == [711.0 / 2, 693.0 / 4]


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'k': [0.0] * 9}, 'K is all zeros: the camera is not calibrated'),
        ({'k': [1.0] * 9}, r'K must be \[\[fx'),
        ({'k': [float('nan')] * 9}, 'finite'),
        ({'d': [0.1]}, 'takes 0 or 4 or 5 coefficients, got 1'),
        ({'distortion_model': 'magic'}, "'magic' is not one of"),
        ({'width': 0}, 'size must be positive'),
        (
            {'k': [1e9, 0, 0, 0, 1e9, 0, 0, 0, 1]},
            'K is no calibration of an image of 960 x 720 px',
        ),
        ({'binning_x': 1000}, 'binning 1000 x 1 leaves nothing of 960 x 720 px'),
    ],
)
def test_bad_camera_info_is_named(kwargs, message):
    with pytest.raises(conversions.CameraInfoError, match=message):
        conversions.camera_from_info(info_msg(**kwargs))


@pytest.fixture
def face():
    T = np.eye(4)
    T[:3, :3] = so3.exp(torch.tensor([0.3, -0.8, 2.0]).double()).numpy()
    T[:3, 3] = 0.1, -0.2, 1.5
    covariance = np.arange(36.0).reshape(6, 6)
    return FacePose(
        T_cam_head=T,
        covariance=covariance,
        keypoints_uv=np.zeros((478, 2)),
        keypoints_sigma_px=np.ones(478),
        box_xyxy=np.zeros(4),
        score=1.0,
        shape=np.zeros(0),
        shape_covariance=np.zeros((0, 0)),
        covariance_given_shape=covariance,
        pose_of_shape=np.zeros((6, 0)),
        shape_prior_of='',
        id='f00042',
    )


def rotation_of(q) -> np.ndarray:
    return so3.from_quat_xyzw(torch.tensor([q.x, q.y, q.z, q.w], dtype=torch.float64)).numpy()


def test_pose_messages_carry_the_header_and_the_pose(face):
    for msg, pose in (
        (conversions.pose_stamped_msg(face, HEADER), lambda m: m.pose),
        (conversions.pose_with_covariance_msg(face, HEADER), lambda m: m.pose.pose),
        (conversions.pose_array_msg([face], HEADER), lambda m: m.poses[0]),
    ):
        assert msg.header == HEADER
        p = pose(msg).position
        assert (p.x, p.y, p.z) == (0.1, -0.2, 1.5)
        np.testing.assert_allclose(
            rotation_of(pose(msg).orientation), face.T_cam_head[:3, :3], atol=1e-9
        )


def test_covariance_is_row_major(face):
    msg = conversions.pose_with_covariance_msg(face, HEADER)
    assert list(msg.pose.covariance) == list(range(36))


def test_face_and_gaze_frames_follow_rep_155(face):
    head, gaze = conversions.face_transforms(face, HEADER)
    assert (head.child_frame_id, gaze.child_frame_id) == ('face_f00042', 'gaze_f00042')
    assert head.header == gaze.header == HEADER
    R_head = rotation_of(head.transform.rotation)
    R_gaze = rotation_of(gaze.transform.rotation)
    np.testing.assert_allclose(R_gaze[:, 2], R_head[:, 0], atol=1e-9)  # z along the face's x
    np.testing.assert_allclose(R_gaze[:, 0], -R_head[:, 1], atol=1e-9)  # x right, not left
    np.testing.assert_allclose(R_gaze[:, 1], -R_head[:, 2], atol=1e-9)  # y down, not up
    assert head.transform.translation == gaze.transform.translation
