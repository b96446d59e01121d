# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pixels of image messages, as drivers send them."""

import array
import struct

import cv2
import numpy as np
import pytest
from helpers.exif import with_orientation

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from face_pose_ros.ros import images

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
    rgb = images.image_to_rgb(image_msg(pixels, encoding, padding))
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize(
    ('encoding', 'pixels'), [('rgb8', RGB), ('rgba8', with_alpha(RGB)), ('mono8', RGB[..., :1])]
)
def test_no_copy_where_the_layout_allows(encoding, pixels):
    msg = image_msg(pixels, encoding, padding=3)
    before = int(images.image_to_rgb(msg)[0, 0, 0])
    rgb = images.image_to_rgb(msg)
    msg.data[0] = 255 - before
    assert rgb[0, 0, 0] == 255 - before


def test_last_row_may_lack_its_padding():
    msg = image_msg(RGB, 'rgb8', padding=5)
    del msg.data[-5:]
    np.testing.assert_array_equal(images.image_to_rgb(msg), RGB)


# A picture without edges: what halves the resolution of its colours does not change it much.
SMOOTH = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_CUBIC)


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """Image of a sensor with this pattern ('rggb': first row r g, second g b)."""
    seen = np.empty(rgb.shape[:2], rgb.dtype)
    for i, colour in enumerate(pattern):
        seen[i // 2 :: 2, i % 2 :: 2] = rgb[i // 2 :: 2, i % 2 :: 2, 'rgb'.index(colour)]
    return seen


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_mosaics(pattern, bits, padding):
    seen = mosaic(SMOOTH, pattern)
    pixels = seen if bits == 8 else seen.astype('<u2') * 257
    rgb = images.image_to_rgb(image_msg(pixels, f'bayer_{pattern}{bits}', padding))
    assert np.abs(rgb.astype(int) - SMOOTH)[2:-2, 2:-2].mean() < 8
    np.testing.assert_array_equal(rgb, images.image_to_rgb(image_msg(seen, f'bayer_{pattern}8')))


# Colours at half the resolution lose nothing of it.
BLOCKS = RGB.repeat(2, 0).repeat(2, 1)


def yuv_of(rgb: np.ndarray) -> np.ndarray:
    """Y, U, V of ITU-R BT.601 with the range of television, (H, W, 3) uint8."""
    matrix = [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
    yuv = rgb / 255 @ np.array(matrix).T + [16, 128, 128]
    return yuv.round().astype(np.uint8)


def side_by_side(rgb: np.ndarray, luma_first: bool) -> np.ndarray:
    """Y and in turn U, V of each pixel, (H, W, 2)."""
    y, chroma = yuv_of(rgb)[..., 0], yuv_of(rgb)[:, ::2, 1:].reshape(rgb.shape[:2])
    return np.dstack([y, chroma] if luma_first else [chroma, y])


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize(
    ('encoding', 'luma_first'),
    [('yuv422', False), ('uyvy', False), ('yuv422_yuy2', True), ('yuyv', True)],
)
def test_yuv_side_by_side(encoding, luma_first, padding):
    msg = image_msg(side_by_side(BLOCKS, luma_first), encoding, padding)
    assert np.abs(images.image_to_rgb(msg).astype(int) - BLOCKS).mean() < 2


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'nv24'])
def test_yuv_in_planes(encoding, padding):
    height, width = BLOCKS.shape[:2]
    yuv = yuv_of(BLOCKS)
    every = 1 if encoding == 'nv24' else 2
    chroma = yuv[::every, ::every, :0:-1] if encoding == 'nv21' else yuv[::every, ::every, 1:]
    # The rows of nv24's second plane are twice as long, their padding too.
    wide = 2 * padding if encoding == 'nv24' else padding
    planes = [
        np.pad(yuv[..., 0], ((0, 0), (0, padding)), constant_values=99),
        np.pad(chroma.reshape(len(chroma), -1), ((0, 0), (0, wide)), constant_values=99),
    ]
    msg = Image(
        header=HEADER,
        height=height,
        width=width,
        encoding=encoding,
        step=width + padding,
        data=array.array('B', b''.join(plane.tobytes() for plane in planes)),
    )
    assert np.abs(images.image_to_rgb(msg).astype(int) - BLOCKS).mean() < 2


@pytest.mark.parametrize(
    ('encoding', 'expected'),
    [('8UC1', RGB[..., :1].repeat(3, 2)), ('8UC3', RGB[..., ::-1]), ('8UC4', RGB[..., ::-1])],
)
def test_types_without_a_colour_meaning_have_opencvs_order(encoding, expected):
    pixels = with_alpha(RGB)[..., : int(encoding[-1])]
    rgb = images.image_to_rgb(image_msg(pixels, encoding, padding=5))
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize(
    ('encoding', 'channels'),
    [('mono16', [0]), ('rgb16', [0, 1, 2]), ('bgr16', [2, 1, 0]), ('rgba16', [0, 1, 2, 0])],
)
def test_sixteen_bits_become_eight(encoding, channels, big_endian):
    pixels = (RGB[..., channels].astype(np.uint16) * 257).astype('>u2' if big_endian else '<u2')
    msg = image_msg(pixels, encoding, padding=6)
    msg.is_bigendian = int(big_endian)
    expected = RGB if len(channels) > 1 else RGB[..., :1].repeat(3, 2)
    np.testing.assert_array_equal(images.image_to_rgb(msg), expected)


@pytest.mark.parametrize('bits', [10, 12, 14])
def test_fewer_bits_than_sixteen_are_as_bright(bits):
    pixels = RGB[..., :1].astype('<u2') << (bits - 8)
    rgb = images.image_to_rgb(image_msg(pixels, 'mono16'))
    np.testing.assert_array_equal(rgb, RGB[..., :1].repeat(3, 2))


def test_an_encoding_that_only_cv_bridge_knows_is_converted_by_it(monkeypatch):
    cv_bridge = pytest.importorskip('cv_bridge')
    monkeypatch.setattr(cv_bridge.CvBridge, 'imgmsg_to_cv2', lambda self, msg, desired: RGB)
    np.testing.assert_array_equal(images.image_to_rgb(image_msg(RGB, 'rgb10')), RGB)


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
        (Image(height=4, width=6, encoding='bayer_rggb8', step=6), '0 bytes of data, expected 24'),
        (image_msg(RGB[:, :5], 'yuyv'), 'step of 15 bytes|OpenCV'),
        (image_msg(RGB[..., :1], 'nv12'), 'expected even numbers'),
        (image_msg(RGB, '16UC1'), "encoding '16UC1' does not define colours"),
        (image_msg(RGB, '32FC1'), "encoding '32FC1' does not define colours"),
    ],
)
def test_bad_image_is_named(msg, message):
    with pytest.raises(images.ImageError, match=message):
        images.image_to_rgb(msg)


def compressed(pixels: np.ndarray, form: str, extension: str, *options: int) -> CompressedImage:
    data = cv2.imencode(extension, pixels, options)[1].tobytes()
    return CompressedImage(header=HEADER, format=form, data=array.array('B', data))


BGR = SMOOTH[..., ::-1]


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.webp', '.tiff'])
def test_compressed_image(extension):
    rgb = images.compressed_image_to_rgb(compressed(BGR, extension[1:], extension))
    assert rgb.shape == SMOOTH.shape
    limit = 0 if extension in ('.png', '.tiff') else 12
    assert np.abs(rgb.astype(int) - SMOOTH).mean() <= limit


def test_a_grey_jpeg():
    grey = SMOOTH[..., 0]
    rgb = images.compressed_image_to_rgb(compressed(grey, 'mono8; jpeg compressed mono8', '.jpg'))
    assert np.abs(rgb.astype(int) - grey[..., None]).mean() < 4


def test_a_png_of_sixteen_bits():
    grey = SMOOTH[..., 0].astype(np.uint16)
    msg = compressed(grey << 4, 'mono16; png compressed ', '.png')
    np.testing.assert_array_equal(
        images.compressed_image_to_rgb(msg), SMOOTH[..., :1].repeat(3, 2)
    )


@pytest.mark.parametrize('data', [b'', b'no picture', b'\xff\xd8\xff'])
def test_bad_compressed_image_is_named(data):
    with pytest.raises(images.ImageError, match="format 'jpeg', expected a picture that OpenCV"):
        images.compressed_image_to_rgb(CompressedImage(format='jpeg', data=data))


def test_compressed_depth_is_refused():
    msg = compressed(BGR, '16UC1; compressedDepth png', '.png')
    with pytest.raises(images.ImageError, match='is a depth image, expected colours'):
        images.compressed_image_to_rgb(msg)


@pytest.mark.parametrize('has_simplejpeg', [True, False])
@pytest.mark.parametrize('orientation', [1, 2, 3, 6])
def test_an_orientation_in_the_file_is_not_the_sensors(orientation, has_simplejpeg, monkeypatch):
    if not has_simplejpeg:
        monkeypatch.setattr(images, 'simplejpeg', None)
    plain = compressed(BGR, 'jpeg', '.jpg')
    turned = CompressedImage(data=with_orientation(bytes(plain.data), orientation))
    rgb = images.compressed_image_to_rgb(turned)
    np.testing.assert_array_equal(rgb, images.compressed_image_to_rgb(plain))


@pytest.mark.parametrize('codec', ['jpeg', 'png'])
@pytest.mark.parametrize('pattern', ['rggb', 'grbg'])
def test_a_compressed_mosaic_becomes_colours(pattern, codec):
    form = f'bayer_{pattern}8; {codec} compressed '
    msg = compressed(mosaic(SMOOTH, pattern), form, f'.{codec}', *[cv2.IMWRITE_JPEG_QUALITY, 100])
    rgb = images.compressed_image_to_rgb(msg)
    assert np.abs(rgb.astype(int) - SMOOTH)[2:-2, 2:-2].mean() < 9


def test_what_was_converted_before_it_was_compressed_is_no_mosaic():
    colours = compressed(BGR, 'bayer_rggb8; jpeg compressed bgr8', '.jpg')
    rgb = images.compressed_image_to_rgb(colours)
    assert np.abs(rgb.astype(int) - SMOOTH).mean() < 12
    grey = compressed(SMOOTH[..., 0], 'bayer_rggb8; jpeg compressed mono8', '.jpg')
    rgb = images.compressed_image_to_rgb(grey)
    np.testing.assert_array_equal(rgb[..., 0], rgb[..., 2])


@pytest.mark.parametrize(
    ('form', 'exchanged'),
    [
        ('rgb8; jpeg compressed bgr8', False),
        ('bgr8; jpeg compressed bgr8', False),
        ('rgb8; jpeg compressed rgb8', True),
        ('bgr8; png compressed ', True),
        ('rgb8', False),
        ('jpeg', False),
    ],
)
def test_the_order_of_colours_is_that_of_the_format(form, exchanged):
    rgb = images.compressed_image_to_rgb(compressed(BGR, form, '.png'))
    np.testing.assert_array_equal(rgb[..., ::-1] if exchanged else rgb, SMOOTH)


def jpeg_of_noise() -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return cv2.imencode('.jpg', noise)[1].tobytes()


def lossy(kind: str, share: float) -> bytes:
    """A JPEG that lost data on the bus, from this share of the file on."""
    jpeg = jpeg_of_noise()
    at = int(share * len(jpeg))
    return {
        'cut off': jpeg[:at],
        'zeros from there on': jpeg[:at] + bytes(len(jpeg) - at - 2) + b'\xff\xd9',
        'a packet lost': jpeg[:at] + jpeg[at + 600 :],
    }[kind]


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
@pytest.mark.parametrize('kind', ['cut off', 'zeros from there on', 'a packet lost'])
def test_a_damaged_jpeg_is_not_made_up(kind, share):
    pytest.importorskip('simplejpeg', reason='detects damaged JPEGs')
    with pytest.raises(images.DamagedImageError, match='a damaged JPEG, dropped: '):
        images.compressed_image_to_rgb(CompressedImage(format='jpeg', data=lossy(kind, share)))


@pytest.mark.parametrize('extra', [0, 4])
def test_bytes_that_some_webcams_leave_before_a_marker_do_no_harm(extra):
    jpeg = jpeg_of_noise()
    expected = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_BGR)[..., ::-1]
    # Behind the last marker there may be anything.
    data = jpeg[:-2] + bytes(extra) + jpeg[-2:] + bytes(100)
    rgb = images.compressed_image_to_rgb(CompressedImage(format='jpeg', data=data))
    np.testing.assert_array_equal(rgb, expected)


def test_an_impossible_size_in_a_damaged_header_is_an_error():
    pytest.importorskip('simplejpeg', reason='detects damaged JPEGs')
    jpeg = jpeg_of_noise()
    size = jpeg.index(b'\xff\xc0') + 5
    data = jpeg[:size] + struct.pack('>HH', 60_000, 60_000) + jpeg[size + 4 :]
    with pytest.raises(images.DamagedImageError, match='a JPEG of 60000 x 60000 px'):
        images.compressed_image_to_rgb(CompressedImage(format='jpeg', data=data))
