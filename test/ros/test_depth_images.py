# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images are read from raw and compressed messages; what can not be read is named."""

import array
import struct
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from helpers.depth_messages import compressed_depth_msg, depth_msg
from sensor_msgs.msg import CompressedImage

from face_pose_ros.ros.depth_images import depth_pixels
from face_pose_ros.ros.images import ImageError


def some_depth(kind=np.uint16, width=64, height=48):
    """Two slopes with holes; the last pixel is one."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    z = 700 + 3 * u + 11 * v + 900 * (u > 40)
    z[(u * v) % 7 == 3] = 0
    z[-1, -1] = 0
    return z.astype(np.uint16) if kind == np.uint16 else (0.001 * z).astype(np.float32)


@pytest.mark.parametrize('kind', [np.uint16, np.float32])
@pytest.mark.parametrize('is_bigendian', [False, True])
def test_raw_pixels_are_read_in_both_units_and_orders(kind, is_bigendian):
    z = some_depth(kind)
    read = depth_pixels(depth_msg(z, is_bigendian=is_bigendian))
    assert read.dtype == kind
    np.testing.assert_array_equal(read, z)


def test_another_encoding_is_named():
    with pytest.raises(ImageError, match="'8UC1', expected 16UC1"):
        depth_pixels(depth_msg(some_depth(), encoding='8UC1'))


@pytest.mark.parametrize('codec', ['png', 'rvl', ''])
def test_millimetres_of_compressed_depth_are_exact(codec):
    z = some_depth()
    read = depth_pixels(compressed_depth_msg(z, codec))
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, z)


@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_metres_of_compressed_depth_are_right_to_the_quantisation(codec):
    z = some_depth(np.float32)
    z[0, 0] = np.nan
    read = depth_pixels(compressed_depth_msg(z, codec))
    assert read.dtype == np.float32
    measured = np.isfinite(z) & (z > 0)
    assert (read[~measured] == 0).all()
    step = z[measured] ** 2 / (100.0 * 101.0)  # of the inverse depth, at a quantisation of 100
    assert (np.abs(read - z)[measured] <= step).all()
    assert np.abs(read - z)[measured].max() > 0


def test_a_png_of_the_plain_transport_is_read():
    z = some_depth()
    data = cv2.imencode('.png', z)[1].tobytes()
    msg = CompressedImage(format='16UC1; png compressed ', data=array.array('B', data))
    np.testing.assert_array_equal(depth_pixels(msg), z)


def test_a_known_rvl_stream_is_read():
    # 2 zeros, 3 depths: 5, 6, 4 by differences of 5, 1, -2; 1 zero, 0 depths. Zigzag-coded the
    # differences are 10, 2, 3; 10 has two nibbles: 2 and more, 1.
    words = struct.pack('<I', 0x23A12310)
    data = struct.pack('<iffII', 0, 0, 0, 3, 2) + words
    msg = CompressedImage(format='16UC1; compressedDepth rvl', data=array.array('B', data))
    np.testing.assert_array_equal(depth_pixels(msg), [[0, 0, 5], [6, 4, 0]])


def test_steps_over_the_whole_range_survive():
    z = np.array([[65535, 1, 65535, 0, 0, 32768, 1, 2, 65534]], np.uint16)
    np.testing.assert_array_equal(depth_pixels(compressed_depth_msg(z, 'rvl')), z)


def test_an_empty_image_is_read():
    z = np.zeros((30, 40), np.uint16)
    np.testing.assert_array_equal(depth_pixels(compressed_depth_msg(z, 'rvl')), z)


def changed(codec, format=None, data=None, kind=np.uint16):
    msg = compressed_depth_msg(some_depth(kind), codec)
    msg.format = format or msg.format
    if data:
        msg.data = array.array('B', data(bytes(msg.data)))
    return msg


def jpeg(_):
    return cv2.imencode('.jpg', np.full((8, 8), 200, np.uint8))[1].tobytes()


def png_of_8_bits(data):
    return data[:12] + cv2.imencode('.png', np.full((8, 8), 200, np.uint8))[1].tobytes()


def png_of_a_huge_size(data):
    """What OpenCV refuses by an exception: more pixels than it ever decodes."""
    size = struct.pack('>II', 70_000, 70_000)
    ihdr = b'IHDR' + size + data[36:41]
    return data[:24] + ihdr + struct.pack('>I', zlib.crc32(ihdr)) + data[45:]


UNREADABLE = {
    'of colours': (changed('png', '16UC1; jpeg compressed ', jpeg), 'JPEG has 8 bits'),
    'without encoding': (changed('png', 'png'), "format 'png', expected compressedDepth"),
    'of an unknown codec': (changed('png', '16UC1; compressedDepth zstd'), 'as png or rvl'),
    'of another encoding': (changed('png', 'rgb8; compressedDepth png'), 'of 16UC1 or 32FC1'),
    'metres without a header': (changed('png', '32FC1; png compressed'), 'expected compressed'),
    'shorter than the header': (changed('png', data=lambda d: d[:7]), '7 bytes'),
    'not a PNG': (changed('png', data=lambda d: d[:12] + b'no picture'), '10 bytes of format'),
    'a cut PNG': (changed('png', data=lambda d: d[:40]), 'one channel of 16 bits'),
    'a PNG of 8 bits': (changed('png', data=png_of_8_bits), 'one channel of 16 bits'),
    'a PNG of a huge size': (changed('png', data=png_of_a_huge_size), 'one channel of 16 bits'),
    'RVL without a size': (changed('rvl', data=lambda d: d[:15]), 'for 0 x 0 px'),
    'a cut RVL': (changed('rvl', data=lambda d: d[:400]), 'damaged RVL data'),
    'RVL of a huge size': (
        changed('rvl', data=lambda d: d[:12] + b'\xff\xff\x0f\x00' * 2 + d[20:]),
        'for 1048575 x 1048575 px',
    ),
    'metres without parameters': (
        changed('png', data=lambda d: bytes(12) + d[12:], kind=np.float32),
        'parameters 0, 0, expected a positive a',
    ),
}


@pytest.mark.parametrize('name', UNREADABLE)
def test_what_can_not_be_read_is_named(name):
    msg, text = UNREADABLE[name]
    with pytest.raises(ImageError, match=text):
        depth_pixels(msg)


@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_noise_never_crashes(codec):
    rng = np.random.default_rng(5)
    whole = bytes(compressed_depth_msg(some_depth(), codec).data)
    for _ in range(300):
        data = bytearray(whole[: rng.integers(12, len(whole) + 1)])
        for place in rng.integers(12, len(data) + 1, 6):
            if place < len(data):
                data[place] = rng.integers(256)
        format = f'16UC1; compressedDepth {codec}'
        msg = CompressedImage(format=format, data=array.array('B', bytes(data)))
        with suppress(ImageError):
            assert depth_pixels(msg).dtype == np.uint16
