# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads images of a webcam, a video file or a folder. No ROS import."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')

_RATE_HZ = 30.0  # of a folder, and of a video without a rate
_MAX_AGE_S = 1.0  # a webcam's stamp that is older belongs to another clock


class SourceError(ValueError):
    """An unusable source; the text names it and what was expected."""


@dataclass(frozen=True)
class Picture:
    """One image of a source."""

    rgb: NDArray[np.uint8]  # (H, W, 3)
    name: str = ''  # file name
    age_s: float = 0.0  # time since it was taken; 0 for a file


@dataclass(frozen=True)
class CameraSource:
    """An open source."""

    width: int  # of the first image [px]; images of a folder may differ
    height: int
    rate_hz: float | None  # rate of the images; None: as fast as a webcam delivers
    # Ends with the video or folder. Raises SourceError for an unreadable file and for a webcam
    # that stops.
    pictures: Iterator[Picture]


def open_source(
    source: str,
    loop: bool = False,
    rate_hz: float = 0.0,
    size: tuple[int, int] | None = None,
) -> CameraSource:
    """Open a source and read its first image.

    Args:
        source: `webcam:<index>`, a video file, an image, or a folder of images in the order of
            their names.
        loop: Repeat a video or folder.
        rate_hz: Images per second; 0: the video's own, or 30. Requested from a webcam, which sets
            the pace.
        size: Width and height [px] requested from a webcam.

    Raises:
        SourceError: The source does not exist, does not open or has no images.
    """
    if webcam := re.fullmatch(r'webcam:(\d+)', source):
        capture = _open_webcam(int(webcam[1]), size, rate_hz)
        return _opened(source, None, _webcam_pictures(source, capture))
    path = Path(source).expanduser()
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise SourceError(
                f'source {source}: no pictures in this folder, expected some of '
                f'{", ".join(IMAGE_SUFFIXES)}'
            )
        return _opened(source, rate_hz or _RATE_HZ, _image_pictures(paths, loop))
    if not path.is_file():
        raise SourceError(
            f"source '{source}' does not exist, expected virtual, webcam:<index>, a video file or "
            'a folder of pictures'
        )
    # OpenCV would read img_01.png as the first of a numbered series.
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _opened(source, rate_hz or _RATE_HZ, _image_pictures([path], loop))
    # Some files state 0, NaN, or the ticks of their clock.
    own_hz = _open_video(path).get(cv2.CAP_PROP_FPS)
    own_hz = own_hz if 1 <= own_hz <= 1000 else _RATE_HZ
    return _opened(source, rate_hz or own_hz, _video_pictures(path, loop))


def _opened(source: str, rate_hz: float | None, pictures: Iterator[Picture]) -> CameraSource:
    first = next(pictures, None)
    if first is None:
        raise SourceError(f'source {source}: no picture that OpenCV can read')
    height, width = first.rgb.shape[:2]
    # A webcam's first image may be old.
    rest = pictures if rate_hz is None else chain([first], pictures)
    return CameraSource(width, height, rate_hz, rest)


def _image_pictures(paths: Sequence[Path], loop: bool) -> Iterator[Picture]:
    for path in cycle(paths) if loop else paths:
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if bgr is None:
            raise SourceError(f'source {path}: no picture that OpenCV can read')
        yield Picture(_rgb(bgr), path.name)


def _open_video(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(f'source {path}: no video that OpenCV can read')
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # K is for the sensor's pixels
    return capture


def _video_pictures(path: Path, loop: bool) -> Iterator[Picture]:
    while True:
        # Reopen: not every format can be rewound.
        capture = _open_video(path)
        ok, bgr = capture.read()
        again = loop and ok
        while ok:
            yield Picture(_rgb(bgr))
            ok, bgr = capture.read()
        if not again:
            return


def _open_webcam(index: int, size: tuple[int, int] | None, rate_hz: float) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise SourceError(
            f'source webcam:{index} does not open, expected a camera such as /dev/video{index} '
            'that no other program uses'
        )
    # Uncompressed, USB 2 transports 1280 x 720 px at about 10 Hz only.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*'MJPG'))
    if size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if rate_hz:
        capture.set(cv2.CAP_PROP_FPS, rate_hz)
    return capture


def _webcam_pictures(name: str, capture: cv2.VideoCapture) -> Iterator[Picture]:
    while capture.grab():
        taken_s = _taken_s(capture)
        ok, bgr = capture.retrieve()
        # A damaged image does not end the stream.
        if ok:
            rgb = _rgb(bgr)
            yield Picture(rgb, age_s=time.monotonic() - taken_s)
    raise SourceError(f'source {name} stopped delivering pictures')


def _taken_s(capture: cv2.VideoCapture) -> float:
    """When the grabbed image was taken, on the clock of time.monotonic [s]."""
    now_s = time.monotonic()
    if capture.getBackendName() == 'V4L2':
        # The driver's stamp; most drivers use the monotonic clock.
        driver_s = 1e-3 * capture.get(cv2.CAP_PROP_POS_MSEC)
        if 0 <= now_s - driver_s < _MAX_AGE_S:
            return driver_s
    return now_s


def _rgb(bgr: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
