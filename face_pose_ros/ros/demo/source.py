"""Pictures of a webcam, a video file or a folder, one after the other. No ROS import."""

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

_RATE_HZ = 30.0  # of a folder, and of a video that does not say
_MAX_AGE_S = 1.0  # a webcam's stamp that lies further back is of another clock


class SourceError(ValueError):
    """A source that can't be played; the text names it and what was expected."""


@dataclass(frozen=True)
class Picture:
    """One picture of a source."""

    rgb: NDArray[np.uint8]  # (H, W, 3)
    name: str = ''  # of its file
    age_s: float = 0.0  # since it was taken; 0 if it is played from a file


@dataclass(frozen=True)
class CameraSource:
    """A source that is open."""

    width: int  # of the first picture [px], and of all but a folder's
    height: int
    rate_hz: float | None  # how often to take a picture; None: as a webcam has them
    # Ends with the video or the folder. Raises SourceError for a file that OpenCV can't read and a
    # webcam that stops delivering.
    pictures: Iterator[Picture]


def open_source(
    source: str,
    loop: bool = False,
    rate_hz: float = 0.0,
    size: tuple[int, int] | None = None,
) -> CameraSource:
    """Open a source and look at its first picture.

    Args:
        source: `webcam:<index>`, a video file, a picture, or a folder of pictures, which are shown
            in the order of their names.
        loop: Begin again at the end of a video or folder.
        rate_hz: How often to show a picture; 0: as the video says, or 30. Of a webcam it is asked
            for, and the webcam sets the pace.
        size: Width and height [px] that a webcam is asked for.

    Raises:
        SourceError: The source does not exist, does not open or has no pictures.
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
    # OpenCV would play a picture img_01.png as the first of a numbered series.
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _opened(source, rate_hz or _RATE_HZ, _image_pictures([path], loop))
    # Some files say 0, not a number, or the ticks of their clock.
    own_hz = _open_video(path).get(cv2.CAP_PROP_FPS)
    own_hz = own_hz if 1 <= own_hz <= 1000 else _RATE_HZ
    return _opened(source, rate_hz or own_hz, _video_pictures(path, loop))


def _opened(source: str, rate_hz: float | None, pictures: Iterator[Picture]) -> CameraSource:
    first = next(pictures, None)
    if first is None:
        raise SourceError(f'source {source}: no picture that OpenCV can read')
    height, width = first.rgb.shape[:2]
    # A webcam's first picture is old when it is asked for.
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
    return capture


def _video_pictures(path: Path, loop: bool) -> Iterator[Picture]:
    while True:
        # Opened anew because not every format can be wound back.
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
    # Uncompressed, USB 2 carries 1280 x 720 px at about 10 Hz only.
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
        # A picture damaged on the wire is no reason to stop.
        if ok:
            rgb = _rgb(bgr)
            yield Picture(rgb, age_s=time.monotonic() - taken_s)
    raise SourceError(f'source {name} stopped delivering pictures')


def _taken_s(capture: cv2.VideoCapture) -> float:
    """When the picture just grabbed was taken, on the clock of time.monotonic [s]."""
    now_s = time.monotonic()
    if capture.getBackendName() == 'V4L2':
        # The driver's own stamp; most drivers use the monotonic clock.
        driver_s = 1e-3 * capture.get(cv2.CAP_PROP_POS_MSEC)
        if 0 <= now_s - driver_s < _MAX_AGE_S:
            return driver_s
    return now_s


def _rgb(bgr: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
