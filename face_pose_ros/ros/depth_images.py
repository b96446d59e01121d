# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads depth images from messages: raw, or compressed by image_transport's plugins."""

from __future__ import annotations

import struct
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from face_pose_ros import _core
from face_pose_ros.ros.images import MAX_PIXELS, ImageError, image_rows

# Of a depth image's transport; each but the first is also the end of its topic's name.
RAW, COMPRESSED, COMPRESSED_DEPTH = DEPTH_TRANSPORTS = ('raw', 'compressed', 'compressedDepth')

_TYPES = {'16UC1': 'u2', 'mono16': 'u2', '32FC1': 'f4'}
# In front of the data of compressedDepth: format, and two parameters of the quantisation.
_HEADER = struct.Struct('<iff')
_RVL_SIZE = struct.Struct('<II')  # width and height
_PNG = b'\x89PNG\r\n\x1a\n'


def depth_pixels(msg: Image | CompressedImage) -> NDArray:
    """Pixels of a depth image message, (H, W) uint16 in mm or float32 in m.

    Raises:
        ImageError: Encoding, size and data do not fit together, or the data are damaged.
    """
    if isinstance(msg, CompressedImage):
        return _decompressed(msg)
    kind = _TYPES.get(msg.encoding)
    if kind is None:
        raise ImageError(
            f"encoding '{msg.encoding}', expected 16UC1 (millimetres) or 32FC1 (metres)"
        )
    if msg.height == 0 or msg.width == 0:
        raise ImageError(f'image of {msg.width} x {msg.height} px, expected a positive size')
    rows = image_rows(msg, msg.height, msg.width * int(kind[1]))
    order = '>' if msg.is_bigendian else '<'
    return np.ascontiguousarray(rows).view(order + kind).astype(kind, copy=False)


def _decompressed(msg: CompressedImage) -> NDArray:
    """Of compressed_depth_image_transport, or a PNG of compressed_image_transport.

    The format names encoding and codec: '16UC1; compressedDepth png', '32FC1; compressedDepth
    rvl', '16UC1; png compressed '. Old publishers write '16UC1; compressedDepth' for PNG.
    """
    encoding, _, codec = (part.strip() for part in msg.format.partition(';'))
    data = bytes(msg.data)
    kind, with_header = _TYPES.get(encoding), codec.startswith('compressedDepth')
    if codec not in ('compressedDepth', 'compressedDepth png', 'compressedDepth rvl') and (
        encoding == '32FC1' or 'png' not in codec
    ):
        kind = None
    if kind is None:
        raise ImageError(
            f"format '{msg.format}', expected compressedDepth, as png or rvl, of 16UC1 or 32FC1, "
            'or a png of 16UC1: JPEG has 8 bits and loses the depth'
        )
    if with_header and len(data) < _HEADER.size:
        raise ImageError(f"{len(data)} bytes of format '{msg.format}', expected a header of 12")
    payload = data[_HEADER.size :] if with_header else data
    stored = _rvl(payload) if codec.endswith('rvl') else _png(payload, msg.format)
    if kind == 'u2':
        return stored
    _, a, b = _HEADER.unpack_from(data)
    if not (0 < a < np.inf and abs(b) < np.inf):
        raise ImageError(
            f'quantised depth with the parameters {a:g}, {b:g}, expected a positive a'
        )
    with np.errstate(divide='ignore'):
        z = np.float32(a) / (stored - np.float32(b))
    z[stored == 0] = 0.0  # not measured
    return z


def _png(data: bytes, what: str) -> NDArray[np.uint16]:
    pixels = None
    if data.startswith(_PNG):
        with suppress(cv2.error):  # a damaged size of more pixels than it decodes
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ImageError(
            f"{len(data)} bytes of format '{what}', expected a PNG with one channel of 16 bits"
        )
    return np.asarray(pixels, dtype=np.uint16)


def _rvl(data: bytes) -> NDArray[np.uint16]:
    """Depths (H, W) of the code of Wilson, "Fast Lossless Depth Image Compression" (2017)."""
    width, height = _RVL_SIZE.unpack_from(data) if len(data) >= _RVL_SIZE.size else (0, 0)
    count = width * height
    if not 0 < count <= MAX_PIXELS:
        raise ImageError(f'RVL data of {len(data)} bytes for {width} x {height} px')
    words = np.frombuffer(data, '<u4', len(data) // 4)[_RVL_SIZE.size // 4 :]
    z = np.zeros(count, np.uint16)
    if not _core.decode_rvl(words.astype(np.uint32), z):
        raise ImageError(f'damaged RVL data of {len(data)} bytes for {width} x {height} px')
    return z.reshape(height, width)
