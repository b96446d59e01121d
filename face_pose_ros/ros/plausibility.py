# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Finds implausible values in a usable calibration: pure functions."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros.camera_info import binning

_GRID = 33, 25  # points whose rays are checked, across and down
_MIN_FOV_DEG, _MAX_FOV_DEG = 10.0, 170.0  # of a pinhole
_SAME = 0.1  # relative difference of equal ratios
_OTHER_SIZE = 0.2  # relative offset of both coordinates that means another size
_SECOND_CAMERA = re.compile(r'right|(?<!\d)2(?!\d)')  # of a stereo pair, by its frame
# Number of coefficients of each model in sensor_msgs.
_COEFFICIENTS = {'plumb_bob': 5, 'rational_polynomial': 8, 'equidistant': 4, '': 0}


class Finding(NamedTuple):
    """An implausible value."""

    key: str  # key in /diagnostics
    value: str
    text: str  # a sentence: what was found, what was expected, what to do


class News:
    """Filters findings: each once, few per key, since a zooming lens changes with each image."""

    def __init__(self, most: int = 3) -> None:
        """Set the largest number of different values per key."""
        self._most = most
        self._values: dict[str, set[str]] = defaultdict(set)

    def among(self, found: Iterable[Finding]) -> list[Finding]:
        """The findings that were not reported yet."""
        new = []
        for finding in found:
            values = self._values[finding.key]
            if finding.value not in values and len(values) < self._most:
                values.add(finding.value)
                new.append(finding)
        return new


def findings(
    info: CameraInfo, camera: Camera, rectified: bool, image_topic: str, frame_id: str
) -> list[Finding]:
    """All implausible values of a calibration.

    Args:
        info: The calibration as received.
        camera: Its `camera_from_info`.
        rectified: Whether the node treats the images as rectified.
        image_topic: Topic of the images.
        frame_id: Of the images.
    """
    return [
        *_range_of_lens(camera),
        *_principal_point(info, rectified),
        *_field_of_view(info, camera, rectified),
        *_model_and_count(info, camera, rectified),
        *_rectification(info, rectified, image_topic),
        *_baseline(info, frame_id),
        *_frame(frame_id, image_topic),
    ]


def _range_of_lens(camera: Camera) -> Iterator[Finding]:
    us = np.linspace(0, camera.width - 1, _GRID[0])
    vs = np.linspace(0, camera.height - 1, _GRID[1])
    uv = np.stack(np.meshgrid(us, vs), -1).reshape(-1, 2)
    outside = ~camera.unproject(uv).valid
    if outside.any():
        # A point on the border counts for half a cell.
        across, down = (np.r_[0.5, np.ones(count - 2), 0.5] for count in _GRID)
        percent = 100 * float(np.average(outside, weights=np.outer(down, across).ravel()))
        share = f'{percent:.0f} %' if percent >= 1 else 'less than 1 %'
        from_centre = np.linalg.norm(uv - camera.K[:2, 2], axis=1)
        nearest, farthest = from_centre[outside].min(), from_centre.max()
        yield Finding(
            'pixels without ray',
            share,
            f'{share} of the image has no ray: the lens model folds back {nearest:.0f} px from '
            f'the principal point, {farthest - nearest:.0f} px before the farthest corner; faces '
            'there are not detected. Calibrate with views that fill the corners',
        )


def _intrinsics(info: CameraInfo, rectified: bool) -> tuple[str, float, float, float, float]:
    """Name of the matrix; fx, fy, cx, cy [px], of the full sensor."""
    if rectified:
        return 'P', info.p[0], info.p[5], info.p[2], info.p[6]
    return 'K', info.k[0], info.k[4], info.k[2], info.k[5]


def _principal_point(info: CameraInfo, rectified: bool) -> Iterator[Finding]:
    name, _, _, cx, cy = _intrinsics(info, rectified)
    width, height = info.width, info.height
    across, down = (2 * cx + 1) / width, (2 * cy + 1) / height  # 1 at the centre
    bin_x, bin_y = binning(info)
    fits = f'{across * width:.0f} x {down * height:.0f} px'
    if max(bin_x, bin_y) > 1 and _similar(across * bin_x, 1) and _similar(down * bin_y, 1):
        yield Finding(
            'binning',
            f'{bin_x} x {bin_y}, {name} fits {fits}',
            f'{name} fits an image of {fits}, which is already binned, but binning_x and '
            f'binning_y are {bin_x} x {bin_y} for {width} x {height} px: binning is applied '
            'twice, and distances are wrong. Set width, height and K of the full sensor, or '
            'binning to 1',
        )
    elif min(abs(across - 1), abs(down - 1)) > _OTHER_SIZE and _similar(across, down):
        yield Finding(
            'resolution',
            f'{width} x {height} px, {name} fits {fits}',
            f'{name} fits an image of {fits}, but width and height are {width} x {height} px: '
            'distances are wrong. Calibrate at the size in use, or scale K',
        )
    elif not (0.5 <= across <= 1.5 and 0.5 <= down <= 1.5):
        yield Finding(
            'principal point',
            f'({cx:.0f}, {cy:.0f}) of {width} x {height} px',
            f'the principal point of {name}, ({cx:.0f}, {cy:.0f}), lies outside the middle half '
            f'of the {width} x {height} px: is it the calibration of this camera, in this size?',
        )


def _similar(a: float, b: float) -> bool:
    return abs(a - b) < _SAME * abs(b)


def _field_of_view(info: CameraInfo, camera: Camera, rectified: bool) -> Iterator[Finding]:
    if camera.distortion_model == 'equidistant':
        return
    name, fx, fy, _, _ = _intrinsics(info, rectified)
    fov_deg = [
        math.degrees(2 * math.atan(0.5 * size / f))
        for size, f in ((info.width, fx), (info.height, fy))
    ]
    if not _MIN_FOV_DEG <= max(fov_deg) <= _MAX_FOV_DEG:
        yield Finding(
            'field of view [deg]',
            f'{fov_deg[0]:.1f} x {fov_deg[1]:.1f}',
            f'the focal lengths of {name}, {fx:.6g} and {fy:.6g} px, mean a field of view of '
            f'{fov_deg[0]:.1f} x {fov_deg[1]:.1f} deg, expected {_MIN_FOV_DEG:.0f} to '
            f'{_MAX_FOV_DEG:.0f}: are they in pixels, of this size?',
        )


def _model_and_count(info: CameraInfo, camera: Camera, rectified: bool) -> Iterator[Finding]:
    named = info.distortion_model
    count = len(np.trim_zeros(np.asarray(info.d), 'b'))
    if not rectified and count > _COEFFICIENTS.get(named, count):
        yield Finding(
            'distortion model',
            f"'{named}' with {count} coefficients",
            f"distortion_model is '{named}', which has {_COEFFICIENTS[named]} coefficients, but D "
            f'has {count} that are not zero: read as {camera.distortion_model}, as in OpenCV',
        )


def _rectification(info: CameraInfo, rectified: bool, image_topic: str) -> Iterator[Finding]:
    if not np.any(info.d):
        return
    name = image_topic.removesuffix('/compressed').rsplit('/', 1)[-1]
    called_rectified = 'rect' in name
    same = np.allclose(np.reshape(info.p, (3, 4))[:, :3], np.reshape(info.k, (3, 3)))
    if called_rectified and not rectified:
        yield Finding(
            'rectified',
            f'D is not zero, topic {name}',
            f'{image_topic} is named rectified, but D is not zero and is applied: if the images '
            'are rectified, set image_is_rectified:=true, which uses P instead',
        )
    elif rectified and not called_rectified and 'raw' in name:
        yield Finding(
            'rectified',
            f'D is not zero, topic {name}, image_is_rectified',
            f'image_is_rectified is set, but {image_topic} is named raw and D is not zero: if the '
            'images are not rectified, set the parameter to false',
        )
    elif rectified and same:
        yield Finding(
            'rectified',
            'D is not zero, P equals K',
            'image_is_rectified is set, but D is not zero and P equals K, as drivers set it for '
            'images that are not rectified: if so, set the parameter to false',
        )


def _baseline(info: CameraInfo, frame_id: str) -> Iterator[Finding]:
    fx, fy = info.p[0], info.p[5]
    apart = info.p[3] or info.p[7]
    # Some drivers set the image's own frame but the first camera's frame in the CameraInfo.
    own_frame = info.header.frame_id not in ('', frame_id) or _SECOND_CAMERA.search(frame_id)
    if not (apart and fx and fy) or own_frame:
        return
    baseline_m = math.hypot(info.p[3] / fx, info.p[7] / fy)
    yield Finding(
        'stereo baseline [m]',
        f'{baseline_m:.3f}',
        f'P[3] and P[7] make this the second camera of a stereo pair, {baseline_m:.3f} m from the '
        f"first; poses are relative to this one. If frame '{frame_id}' is the first camera, they "
        'are wrong by that distance: give this camera a frame of its own',
    )


def _frame(frame_id: str, image_topic: str) -> Iterator[Finding]:
    if not frame_id:
        yield Finding(
            'frame_id',
            'empty',
            f'{image_topic} has an empty frame_id: no TF is sent, and the frame of the poses is '
            "unknown. Set the driver's frame_id",
        )
