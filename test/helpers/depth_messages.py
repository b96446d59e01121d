# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth image messages, raw and as compressed_depth_image_transport writes them."""

import array
import struct

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

_MAX_DEPTH_M, _QUANTISATION = 10.0, 100.0  # the plugin's defaults


def depth_msg(z, at=None, encoding=None, is_bigendian=False):
    """Depth (H, W), uint16 in mm or float32 in m, as a raw message."""
    kind = '16UC1' if z.dtype == np.uint16 else '32FC1'
    stored = z.astype(z.dtype.newbyteorder('>')) if is_bigendian else z
    return Image(
        header=at or Header(),
        height=z.shape[0],
        width=z.shape[1],
        encoding=encoding or kind,
        is_bigendian=is_bigendian,
        step=z.shape[1] * z.itemsize,
        data=array.array('B', stored.tobytes()),
    )


def compressed_depth_msg(z, codec, at=None):
    """The same with the transport compressedDepth.

    Args:
        z: (H, W).
        codec: 'png', 'rvl', or '': png, as old versions name it.
        at: Header.
    """
    kind, a, b = '16UC1', 0.0, 0.0
    if z.dtype == np.float32:
        kind, a = '32FC1', _QUANTISATION * (_QUANTISATION + 1)
        b = 1 - a / _MAX_DEPTH_M
        measured = (z > 0) & (z < _MAX_DEPTH_M)
        z = np.where(measured, a / np.where(measured, z, 1) + b, 0).astype(np.uint16)
    data = rvl(z) if codec == 'rvl' else cv2.imencode('.png', z)[1].tobytes()
    return CompressedImage(
        header=at or Header(),
        format=f'{kind}; compressedDepth {codec}'.rstrip(),
        data=array.array('B', struct.pack('<iff', 0, a, b) + data),
    )


def rvl(z):
    """Size and RVL code of depth (H, W) uint16: bytes."""
    flat, nibbles, at, last = z.ravel().astype(int), [], 0, 0
    while at < len(flat):
        for is_depth in (False, True):
            end = at
            while end < len(flat) and (flat[end] > 0) == is_depth:
                end += 1
            _write(end - at, nibbles)
            if is_depth:
                for depth in flat[at:end]:
                    difference, last = depth - last, depth
                    _write(2 * difference if difference >= 0 else -2 * difference - 1, nibbles)
            at = end
    nibbles += [0] * (-len(nibbles) % 8)
    words = np.array(nibbles).reshape(-1, 8) @ 16 ** np.arange(7, -1, -1)
    return struct.pack('<II', z.shape[1], z.shape[0]) + words.astype('<u4').tobytes()


def _write(number, nibbles):
    while True:
        rest = number >> 3
        nibbles.append(number & 7 | (8 if rest else 0))
        number = rest
        if not number:
            return
