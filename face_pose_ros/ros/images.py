# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Converts Image and CompressedImage messages to RGB: pure functions, no node, no context."""

from __future__ import annotations

import re
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

try:
    import simplejpeg  # detects damaged JPEGs; OpenCV fills them with grey and reports success
except ImportError:
    simplejpeg = None


class ImageError(ValueError):
    """An unreadable image message; the text gives what was found and expected."""


class DamagedImageError(ImageError):
    """An image with lost data; the decoder would fill the gap."""


class _Packing(NamedTuple):
    """Layout of the pixels of an encoding in a row."""

    bits: int  # of a channel
    channels: int
    to_rgb: int | None = None  # OpenCV's conversion; None: the first channels are red, green, blue


# OpenCV names a Bayer pattern by its second row, ROS by its first.
_BAYER = {
    'bayer_rggb': cv2.COLOR_BayerBG2RGB,
    'bayer_grbg': cv2.COLOR_BayerGB2RGB,
    'bayer_gbrg': cv2.COLOR_BayerGR2RGB,
    'bayer_bggr': cv2.COLOR_BayerRG2RGB,
}
_PACKINGS = {
    'mono8': _Packing(8, 1),
    'mono16': _Packing(16, 1),
    **{f'rgb{bits}': _Packing(bits, 3) for bits in (8, 16)},
    **{f'rgba{bits}': _Packing(bits, 4) for bits in (8, 16)},
    **{f'bgr{bits}': _Packing(bits, 3, cv2.COLOR_BGR2RGB) for bits in (8, 16)},
    **{f'bgra{bits}': _Packing(bits, 4, cv2.COLOR_BGRA2RGB) for bits in (8, 16)},
    **{
        f'{name}{bits}': _Packing(bits, 1, code)
        for name, code in _BAYER.items()
        for bits in (8, 16)
    },
    # Types without a colour meaning have the channel order of OpenCV.
    '8UC1': _Packing(8, 1),
    '8UC3': _Packing(8, 3, cv2.COLOR_BGR2RGB),
    '8UC4': _Packing(8, 4, cv2.COLOR_BGRA2RGB),
    # yuv422 is UYVY in ROS.
    **dict.fromkeys(('yuv422', 'uyvy'), _Packing(8, 2, cv2.COLOR_YUV2RGB_UYVY)),
    **dict.fromkeys(('yuv422_yuy2', 'yuyv'), _Packing(8, 2, cv2.COLOR_YUV2RGB_YUY2)),
}
# A plane of Y, and below it a plane of interleaved U and V.
_PLANES = {
    'nv12': cv2.COLOR_YUV2RGB_NV12,
    'nv21': cv2.COLOR_YUV2RGB_NV21,
    'nv24': cv2.COLOR_YUV2RGB_NV12,  # U and V for every pixel; NV12: for every fourth
}
_DEPTHS = (8, 10, 12, 14, 16)  # bits of sensors that send 16-bit pixels
MAX_PIXELS = 2**26  # more than any camera has; damaged headers may state more
_READ = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
# Webcams such as the Logitech C270 insert up to 4 bytes before a marker in intact images.
_HARMLESS_BYTES = 8


def image_to_rgb(msg: Image | CompressedImage) -> NDArray[np.uint8]:
    """Pixels of an image message, (H, W, 3) uint8 RGB; see also `compressed_image_to_rgb`.

    rgb8, rgba8, mono8 and 8UC1 become views of the message's memory (in general not contiguous);
    all other encodings are copied. 16-bit pixels are shifted to 8 bits by the smallest bit depth
    of 8, 10, 12, 14, 16 that holds the maximum: many drivers send 12 bits in 16.

    Raises:
        ImageError: Size, step, data or encoding do not fit together.
    """
    if isinstance(msg, CompressedImage):
        return compressed_image_to_rgb(msg)
    if msg.height == 0 or msg.width == 0:
        raise ImageError(f'image of {msg.width} x {msg.height} px, expected a positive size')
    try:
        if msg.encoding in _PLANES:
            return _planes_to_rgb(msg)
        packing = _PACKINGS.get(msg.encoding)
        if packing is None:
            return _through_cv_bridge(msg)
        row = msg.width * packing.channels * packing.bits // 8
        pixels = image_rows(msg, msg.height, row)
        if packing.bits == 16:
            order = '>' if msg.is_bigendian else '<'
            pixels = _to_8_bits(pixels.view(f'{order}u2'))
        if packing.channels > 1:
            pixels = pixels.reshape(msg.height, msg.width, packing.channels)
        return _converted(pixels, packing.to_rgb)
    except cv2.error as error:
        raise ImageError(
            f'{msg.width} x {msg.height} px of {msg.encoding}, which OpenCV cannot convert: '
            f'{error.err}'
        ) from error


def _converted(pixels: NDArray[np.uint8], to_rgb: int | None) -> NDArray[np.uint8]:
    if to_rgb is not None:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), to_rgb), dtype=np.uint8)
    if pixels.ndim == 2:  # three views of one grey channel
        return np.lib.stride_tricks.as_strided(pixels, (*pixels.shape, 3), (*pixels.strides, 0))
    return pixels[..., :3]


def image_rows(
    msg: Image, rows: int, row_bytes: int, first_row: int = 0, every: int = 1
) -> NDArray[np.uint8]:
    """View (rows, row_bytes) of the rows, without padding.

    Args:
        msg: The image.
        rows: Number of rows.
        row_bytes: Bytes per row without padding.
        first_row: Index of the first row in the message.
        every: Rows of the message per row of the result.
    """
    step = every * msg.step
    if step < row_bytes:
        raise ImageError(
            f'step of {msg.step} bytes, expected at least {row_bytes // every} for {msg.width} px '
            f'of {msg.encoding}'
        )
    # The last row may lack its padding.
    start = first_row * msg.step
    expected = start + (rows - 1) * step + row_bytes
    if len(msg.data) < expected:
        raise ImageError(
            f'{len(msg.data)} bytes of data, expected {expected} for {msg.width} x {msg.height} '
            f'px of {msg.encoding} with a step of {msg.step}'
        )
    data = np.frombuffer(msg.data, dtype=np.uint8)[start:]
    return np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1))


def _to_8_bits(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    brightest = int(pixels.max()).bit_length()
    return (pixels >> next(bits - 8 for bits in _DEPTHS if bits >= brightest)).astype(np.uint8)


def _planes_to_rgb(msg: Image) -> NDArray[np.uint8]:
    height, width = msg.height, msg.width
    if height % 2 or width % 2:
        raise ImageError(f'{width} x {height} px of {msg.encoding}, expected even numbers')
    if msg.encoding == 'nv24':
        chroma = image_rows(msg, height, 2 * width, first_row=height, every=2)
        chroma = chroma.reshape(height, width, 2)[::2, ::2].reshape(height // 2, width)
        rows = np.vstack([image_rows(msg, height, width), chroma])
    else:
        rows = image_rows(msg, height + height // 2, width)
    return _converted(rows, _PLANES[msg.encoding])


def _through_cv_bridge(msg: Image) -> NDArray[np.uint8]:
    """Convert other encodings with cv_bridge, if it is installed and supports them."""
    expected = f'expected one of {", ".join((*_PACKINGS, *_PLANES))}'
    if re.fullmatch(r'\d+[USF]C?\d*', msg.encoding):
        raise ImageError(f"encoding '{msg.encoding}' does not define colours, {expected}")
    try:
        from cv_bridge import CvBridge

        return np.asarray(CvBridge().imgmsg_to_cv2(msg, 'rgb8'), dtype=np.uint8)
    # cv_bridge also raises errors of numpy, of OpenCV and of its tables.
    except (ImportError, ValueError, TypeError, KeyError, cv2.error) as error:
        raise ImageError(f"encoding '{msg.encoding}', {expected}") from error


def compressed_image_to_rgb(msg: CompressedImage) -> NDArray[np.uint8]:
    """Pixels of a compressed image message, (H, W, 3) uint8 RGB.

    EXIF orientation is ignored, because K is for the sensor's pixels. `format` is parsed as
    compressed_image_transport writes it ('bayer_rggb8; jpeg compressed '): the image may be a
    Bayer mosaic, or have red and blue exchanged.

    Raises:
        DamagedImageError: The JPEG lost data. Needs the package simplejpeg.
        ImageError: OpenCV cannot decode the data, or the number of channels is wrong.
    """
    if 'compressedDepth' in msg.format:
        raise ImageError(f"format '{msg.format}' is a depth image, expected colours")
    encoding, _, codec = msg.format.partition(';')
    encoding = encoding.strip()
    pixels = _decoded(np.frombuffer(msg.data, dtype=np.uint8), msg.format)
    bayer = _BAYER.get(encoding.rstrip('0123456789'))
    # Recent compressed_image_transport converts a mosaic to grey before the JPEG compression.
    if bayer is not None and not re.search(r'compressed (mono|bgr|rgb)', codec):
        return _converted(pixels if pixels.ndim == 2 else pixels[..., 1], bayer)
    # As its subscriber does: without 'bgr', red and blue were exchanged before encoding.
    if pixels.ndim == 3 and codec and re.match('(rgb|bgr)a?(8|16)$', encoding):
        return pixels if 'compressed bgr' in codec else pixels[..., ::-1]
    return _converted(pixels, None)


def _decoded(data: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, or (H, W) for a grey image."""
    if simplejpeg is not None and data[:2].tobytes() == b'\xff\xd8':
        rgb = _decoded_jpeg(data)
        if rgb is not None:
            return rgb
    try:
        pixels = cv2.imdecode(data, _READ) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"{data.size} bytes of format '{what}', expected a picture that OpenCV decodes "
            '(JPEG, PNG, WebP, TIFF, ...)'
        )
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if pixels.dtype == np.uint16:
        return _to_8_bits(np.asarray(pixels, dtype=np.uint16))
    return np.asarray(pixels, dtype=np.uint8)


def _decoded_jpeg(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Like `_decoded`; None where OpenCV has to decode: CMYK, rare subsampling, truncated data."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if height * width > MAX_PIXELS:
        raise DamagedImageError(f'a JPEG of {width} x {height} px in {data.size} bytes')
    grey = colours.upper() == 'GRAY'
    for strict in (True, False):
        try:
            pixels = simplejpeg.decode_jpeg(data, 'GRAY' if grey else 'RGB', strict=strict)
            return pixels[..., 0] if grey else pixels
        except ValueError as error:
            text = str(error)
            extra = re.search(r'(\d+) extraneous bytes', text)
            if extra and int(extra[1]) <= _HARMLESS_BYTES:
                continue
            if re.match('(Corrupt JPEG data|Premature end)', text):
                raise DamagedImageError(f'a damaged JPEG, dropped: {text}') from error
            return None
    return None
