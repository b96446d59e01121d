# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the golden file: 365 frames in ten scenes, the same bits on every machine.

Only exact arithmetic reaches a pixel: integers, and float64 coordinates rounded to 1/32 px.
portraits.jpg holds Grace Hopper (US Navy) and Eileen Collins (NASA), both public domain;
heads.jpg holds heads of ICT-FaceKit (MIT), drawn by face_pose_lab.synthetic.scene.HeadRenderer:
one person at yaw -90 ... 90 deg, and eight others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros import Camera

CANVAS = (720, 960)  # height, width of the flat scene in front of the cameras
_GREY = 96


class Lens(NamedTuple):
    """A calibration."""

    K: tuple[float, ...]  # 9 numbers, px
    width: int
    height: int
    dist: tuple[float, ...] = ()
    model: str = 'plumb_bob'
    distance: float = 900.0  # of the canvas, in its pixels

    def camera(self) -> Camera:
        """As the package has it."""
        return Camera.from_K(self.K, self.width, self.height, self.dist, self.model)


LENSES = {
    'pinhole': Lens((611.0, 0, 317.3, 0, 603.0, 231.6, 0, 0, 1), 640, 480),
    'plumb_bob': Lens(
        (571.0, 0, 327.7, 0, 583.0, 246.1, 0, 0, 1),
        640,
        480,
        (-0.31, 0.12, -0.0009, 0.0013, -0.021),
    ),
    'rational': Lens(
        (593.0, 0, 311.9, 0, 577.0, 251.2, 0, 0, 1),
        640,
        480,
        (0.41, 0.08, 0.0008, -0.0005, 0.011, 0.73, 0.19, 0.014),
        'rational_polynomial',
    ),
    'fisheye': Lens(
        (421.0, 0, 396.4, 0, 417.0, 306.8, 0, 0, 1),
        800,
        600,
        (-0.012, 0.021, -0.013, 0.0021),
        'equidistant',
        distance=560.0,
    ),
}
LENSES['far fisheye'] = LENSES['fisheye']._replace(distance=900.0)


class Frame(NamedTuple):
    """A picture for `FacePoseEstimator`; one estimator sees all frames of a scene."""

    scene: str
    lens: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    stamp_s: float | None = None  # of `track`; None: for `estimate`
    box_xyxy: tuple[float, ...] | None = None  # given to `estimate`


def frames() -> Iterator[Frame]:
    """All frames, in their order."""
    yield from _portraits()
    yield from _turned_heads()
    yield from _several()
    yield from _given_boxes()
    yield from _moving()
    yield from _crossing()
    yield from _occluded()
    yield from _turning()
    yield from _changing_lens()
    yield from _coming_and_going()


def _portraits() -> Iterator[Frame]:
    for lens in list(LENSES)[:4]:
        for person in range(2):
            canvas = _paste(_background(person), _portrait(person), 330, 210, 300)
            for i in range(8):
                pan, tilt, roll = 0.07 * (i % 5 - 2), 0.06 * (i % 3 - 1), 0.1 * (i % 4 - 1.5)
                yield Frame('portraits', lens, _view(canvas, lens, pan, tilt, roll))


def _turned_heads() -> Iterator[Frame]:
    for lens in ('plumb_bob', 'fisheye'):
        for tile in range(24):
            canvas = _paste(_background(2), _head(tile), 300, 140, 380)
            yield Frame('turned heads', lens, _view(canvas, lens, 0.01 * tile - 0.1, 0.03, -0.04))


def _several() -> Iterator[Frame]:
    for i in range(20):
        canvas = _background(3)
        canvas = _paste(canvas, _portrait(0), 90 + 4 * i, 60, 230)
        canvas = _paste(canvas, _portrait(1), 620 - 5 * i, 90 + 3 * i, 260)
        canvas = _paste(canvas, _head(16 + i % 8), 330, 330, 300)
        canvas = _paste(canvas, _head(5 + i % 6), 640, 400, 260)
        yield Frame('several', list(LENSES)[i % 4], _view(canvas, list(LENSES)[i % 4]))


def _given_boxes() -> Iterator[Frame]:
    for i in range(8):
        canvas = _paste(_background(4), _portrait(i % 2), 330, 210, 300)
        box = (250.0 + 2 * i, 150.0, 390.0, 320.0 + 3 * i)
        yield Frame('given boxes', 'pinhole', _view(canvas, 'pinhole'), box_xyxy=box)


def _moving() -> Iterator[Frame]:
    canvas = _paste(_background(5), _portrait(1), 330, 200, 310)
    for i in range(36):
        pan, tilt = 0.012 * (i if i < 18 else 36 - i) - 0.1, 0.004 * (i % 9)
        yield Frame('moving', 'plumb_bob', _view(canvas, 'plumb_bob', pan, tilt, 0.01 * i), i / 30)


def _crossing() -> Iterator[Frame]:
    for i in range(45):
        canvas = _paste(_background(6), _portrait(0), 120 + 9 * i, 190, 280, oval=True)
        canvas = _paste(canvas, _portrait(1), 560 - 9 * i, 220, 320, oval=True)
        yield Frame('crossing', 'rational', _view(canvas, 'rational'), i / 30)


def _occluded() -> Iterator[Frame]:
    for i in range(36):
        canvas = _paste(_background(7), _portrait(0), 330, 200, 310)
        canvas = _paste(canvas, _head(8), 640, 300, 300)
        canvas[:, 150 + 15 * i : 330 + 15 * i] = (90, 60, 30)
        yield Frame('occluded', 'pinhole', _view(canvas, 'pinhole'), i / 30)


def _turning() -> Iterator[Frame]:
    for i in range(48):
        tile = i // 2 if i < 32 else 8 + (i - 32) // 2
        canvas = _paste(_background(2), _head(min(tile, 15)), 300 + i % 2, 140, 380)
        yield Frame('turning', 'fisheye', _view(canvas, 'fisheye'), i / 15)


def _changing_lens() -> Iterator[Frame]:
    canvas = _paste(_background(8), _portrait(0), 200, 200, 280)
    canvas = _paste(canvas, _portrait(1), 560, 240, 280)
    for i in range(30):
        lens = 'plumb_bob' if i < 15 else 'far fisheye'
        yield Frame('changing lens', lens, _view(canvas, lens, 0.004 * i), i / 30)


def _coming_and_going() -> Iterator[Frame]:
    for i in range(30):
        canvas = _background(9)
        if not 8 <= i < 12:
            canvas = _paste(canvas, _portrait(1), 240, 200, 290)
        if i >= 6:
            canvas = _paste(canvas, _portrait(0), 560, 180, 290)
        yield Frame('coming and going', 'rational', _view(canvas, 'rational'), i / 30)


@lru_cache
def _sheet(name: str) -> NDArray[np.uint8]:
    return cv2.imread(str(Path(__file__).with_name(name)), cv2.IMREAD_COLOR)[..., ::-1]


def _portrait(person: int) -> NDArray[np.uint8]:
    return _sheet('portraits.jpg')[:, 256 * person : 256 * person + 256]


def _head(tile: int) -> NDArray[np.uint8]:
    row, column = divmod(tile, 8)
    return _sheet('heads.jpg')[160 * row : 160 * row + 160, 160 * column : 160 * column + 160]


@lru_cache
def _empty(kind: int) -> NDArray[np.uint8]:
    """A wall with a shade of its own and a pattern."""
    v, u = np.mgrid[: CANVAS[0], : CANVAS[1]]
    shade = 120 + 7 * kind + u // (17 + kind) - v // 23
    pattern = 12 * ((u // 61 + v // 47 + kind) % 3)
    return np.stack([shade, shade + pattern, shade - pattern], -1).clip(0, 255).astype(np.uint8)


def _background(kind: int) -> NDArray[np.uint8]:
    return _empty(kind).copy()


def _paste(
    canvas: NDArray[np.uint8],
    picture: NDArray[np.uint8],
    left: int,
    top: int,
    side: int,
    oval: bool = False,
) -> NDArray[np.uint8]:
    """A square picture on the canvas, or the oval in it; what lies beyond the canvas is cut."""
    picture = cv2.resize(np.ascontiguousarray(picture), (side, side))
    v, u = np.mgrid[:side, :side]
    # Twice the distances to the middle, over the half axes 0.35 and 0.5 of the side.
    inside = 100 * (2 * u - side) ** 2 + 49 * (2 * v - side) ** 2 < 49 * side**2
    inside |= not oval
    inside &= (left + u >= 0) & (left + u < CANVAS[1]) & (top + v < CANVAS[0])
    canvas[top + v[inside], left + u[inside]] = picture[inside]
    return canvas


def _view(
    canvas: NDArray[np.uint8], lens: str, pan: float = 0.0, tilt: float = 0.0, roll: float = 0.0
) -> NDArray[np.uint8]:
    """View of a camera in front of the canvas, turned by the sines of three angles."""
    x, y, z = _directions(lens)
    distance = LENSES[lens].distance
    x, y = _turned(x, y, roll)
    x, z = _turned(x, z, pan)
    y, z = _turned(y, z, tilt)
    with np.errstate(divide='ignore', invalid='ignore'):
        u = distance * x / z + 0.5 * (CANVAS[1] - 1)
        v = distance * y / z + 0.5 * (CANVAS[0] - 1)
    seen = (z > 0.01) & (abs(u) < 5000) & (abs(v) < 5000)
    fixed = np.rint(32 * np.where(seen, np.stack([u, v]), -4000.0)).astype(np.int32)
    whole, part = fixed >> 5, fixed & 31
    maps = np.moveaxis(whole, 0, -1).astype(np.int16), (32 * part[1] + part[0]).astype(np.uint16)
    return cv2.remap(
        canvas, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(_GREY,) * 3
    )


def _turned(
    a: NDArray[np.float64], b: NDArray[np.float64], sine: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cosine = float(np.sqrt(1 - sine * sine))
    return cosine * a + sine * b, cosine * b - sine * a


@lru_cache
def _directions(lens: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """x, y, z of each pixel's ray, by fixed-point iteration; z = 0 where there is none."""
    calibration = LENSES[lens]
    fx, _, cx, _, fy, cy = calibration.K[:6]
    v, u = np.mgrid[: calibration.height, : calibration.width].astype(np.float64)
    xd, yd = (u - cx) / fx, (v - cy) / fy
    if calibration.model == 'equidistant':
        k1, k2, k3, k4 = calibration.dist
        target = np.sqrt(xd * xd + yd * yd)
        theta = target.copy()
        for _ in range(30):
            t = theta * theta
            theta = target / (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
        scale = np.where(target > 0, np.tan(np.minimum(theta, 1.5)) / np.maximum(target, 1e-9), 1)
        return xd * scale, yd * scale, np.where(theta < 1.4, 1.0, 0.0)
    k1, k2, p1, p2, k3, k4, k5, k6 = (*calibration.dist, *[0.0] * 8)[:8]
    x, y = xd.copy(), yd.copy()
    for _ in range(40):
        s = x * x + y * y
        radial = (1 + s * (k1 + s * (k2 + s * k3))) / (1 + s * (k4 + s * (k5 + s * k6)))
        dx = 2 * p1 * x * y + p2 * (s + 2 * x * x)
        dy = p1 * (s + 2 * y * y) + 2 * p2 * x * y
        x, y = (xd - dx) / radial, (yd - dy) / radial
    return x, y, np.ones_like(x)
