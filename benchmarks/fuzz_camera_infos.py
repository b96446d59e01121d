# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checks that valid CameraInfos agree with OpenCV and broken ones are refused, for all models.

python benchmarks/fuzz_camera_infos.py --messages 100000
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from tqdm import tqdm

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros.camera_info import CameraInfoError, binning, camera_from_info
from face_pose_ros.ros.plausibility import findings

_TOLERANCE_PX = 1e-9  # at a focal length of 1000 px
_POLYNOMIAL = (
    'plumb_bob',
    'rational_polynomial',
    'radtan',
    'Brown-Conrady',
    'none',
    'pinhole',
    '',
)
_FISHEYE = ('equidistant', 'fisheye', 'kannala_brandt', 'Kannala-Brandt')
_COUNTS = (0, 4, 5, 8, 12, 14)
# Largest value of each of OpenCV's 14 coefficients.
_SCALES = (0.4, 0.2, 2e-3, 2e-3, 0.1, 0.4, 0.2, 0.1, 1e-3, 1e-3, 1e-3, 1e-3, 2e-2, 2e-2)
_ODD = (float('nan'), float('inf'), -float('inf'))


class Case(NamedTuple):
    """A CameraInfo, whether its images are rectified, and its fault."""

    info: CameraInfo
    rectified: bool
    fault: str  # '' for a valid one


class Fuzz:
    """CameraInfos of cameras from 8 to 8000 px; one in three has one fault."""

    def __init__(self, seed: int) -> None:
        """All cases follow from the seed."""
        self._rng = np.random.default_rng(seed)
        self.faults = {
            'not calibrated': self._uncalibrated,
            'not finite': self._not_finite,
            'negative focal length': self._negative,
            'not of the form of K': self._other_form,
            'no size': self._no_size,
            'unknown model': self._unknown_model,
            'count of no model': self._other_count,
            'no region': self._outside,
            'binned away': self._binned_away,
        }

    def case(self) -> Case:
        """The next one."""
        rectified = self._rng.random() < 0.2
        info = self._sound()
        if self._rng.random() < 2 / 3:
            return Case(info, rectified, '')
        fault = self._one(list(self.faults))
        if fault in ('unknown model', 'count of no model'):
            rectified = False  # P has no distortion
        self.faults[fault](info, 'p' if rectified else 'k')
        return Case(info, rectified, fault)

    def _sound(self) -> CameraInfo:
        rng = self._rng
        width, height = (int(2 ** rng.uniform(3, 13)) for _ in range(2))
        fx = width * 2 ** rng.uniform(-2, 5)
        fy = fx * rng.uniform(0.8, 1.25)
        cx, cy = width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.8)
        skew = self._one([0.0, 0.0, 1e-13, fx * rng.normal(0, 1e-2)])
        K = np.array([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])
        K[2, 2] += self._one([0, 0, 1e-12])
        if rng.random() < 0.35:
            model, count, scales = (
                self._one(_FISHEYE),
                self._one([0, 4]),
                (0.05, 0.02, 0.01, 0.005),
            )
        else:
            model, count, scales = self._one(_POLYNOMIAL), self._one(_COUNTS), _SCALES
        d = rng.normal(0, 0.5, count) * scales[:count]
        if rng.random() < 0.1:  # padded with zeros, as some drivers do
            d = np.append(d, np.zeros({0: 5, 4: 4, 5: 3, 8: 6, 12: 2, 14: 3}[count]))
        info = CameraInfo(
            width=width,
            height=height,
            distortion_model=model,
            d=d.tolist(),
            k=K.ravel(),
            p=np.hstack([K, self._one([0.0, -0.1 * fx]) * np.eye(3, 1)]).ravel(),
        )
        if rng.random() < 0.2:
            w, h = int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1))
            x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            info.roi = RegionOfInterest(x_offset=x, y_offset=y, width=w, height=h)
        if rng.random() < 0.2:
            least = min(info.roi.width or width, info.roi.height or height)
            info.binning_x, info.binning_y = (
                int(rng.integers(0, min(least, 4) + 1)) for _ in 'xy'
            )
        return info

    def _uncalibrated(self, info: CameraInfo, matrix: str) -> None:
        values = np.zeros(12 if matrix == 'p' else 9)
        values[10 if matrix == 'p' else 8] = self._one([0.0, 1.0])
        setattr(info, matrix, values)

    def _not_finite(self, info: CameraInfo, matrix: str) -> None:
        if matrix == 'k' and len(info.d) and self._rng.random() < 0.5:
            info.d[self._index(len(info.d))] = self._one(_ODD)
        else:
            # The fourth column of P is the baseline to another camera.
            places = (0, 1, 2, 4, 5, 6, 8, 9, 10) if matrix == 'p' else range(9)
            getattr(info, matrix)[self._one(list(places))] = self._one(_ODD)

    def _negative(self, info: CameraInfo, matrix: str) -> None:
        getattr(info, matrix)[self._one([0, 5 if matrix == 'p' else 4])] *= -1

    def _other_form(self, info: CameraInfo, matrix: str) -> None:
        places = {'k': (6, 7, 8), 'p': (8, 9, 10)}[matrix]
        getattr(info, matrix)[self._one(places)] += self._one([0.5, 2.0, -3.0])

    def _no_size(self, info: CameraInfo, matrix: str) -> None:
        setattr(info, self._one(['width', 'height']), 0)
        info.roi = RegionOfInterest()

    def _unknown_model(self, info: CameraInfo, matrix: str) -> None:
        info.distortion_model = self._one(['omni', 'fov', 'double_sphere', 'x', 'ftheta'])

    def _other_count(self, info: CameraInfo, matrix: str) -> None:
        fisheye = info.distortion_model in _FISHEYE
        counts = (1, 2, 3, 5, 8, 14) if fisheye else (1, 2, 3, 6, 7, 9, 10, 11, 13, 15, 20)
        info.d = self._rng.uniform(0.01, 0.02, self._one(counts)).tolist()

    def _outside(self, info: CameraInfo, matrix: str) -> None:
        roi = RegionOfInterest(x_offset=self._index(info.width), width=info.width + 1, height=1)
        info.roi = self._one([roi, RegionOfInterest(width=info.width)])

    def _binned_away(self, info: CameraInfo, matrix: str) -> None:
        info.binning_x = info.width + 1

    def _index(self, size: int) -> int:
        return int(self._rng.integers(size))

    def _one(self, choices: Sequence[Any]) -> Any:
        return choices[self._index(len(choices))]


def project_by_opencv(case: Case, rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (N, 2) of directions (N, 3) less than 90 deg off the axis, by OpenCV."""
    info, points, zero = case.info, rays[:, None], np.zeros(3)
    K = np.reshape(info.p, (3, 4))[:, :3] if case.rectified else np.reshape(info.k, (3, 3))
    d = np.array([]) if case.rectified else np.array(info.d)[:14]
    if not case.rectified and info.distortion_model in _FISHEYE:
        xy, _ = cv2.fisheye.projectPoints(
            points, zero, zero, np.eye(3), np.resize(d, 4) * bool(d.size)
        )
    else:
        xy, _ = cv2.projectPoints(points, zero, zero, np.eye(3), d)
    # OpenCV ignores the skew, so K is applied here.
    uv = (np.c_[xy[:, 0], np.ones(len(xy))] @ K.T)[:, :2]
    uv -= [info.roi.x_offset, info.roi.y_offset] if info.roi.width else [0, 0]
    return (uv + 0.5) / binning(info) - 0.5


def error_of(case: Case, camera: Camera) -> float:
    """Largest distance from OpenCV's projection over its tolerance; infinite for NaN."""
    w, h = camera.width - 1, camera.height - 1
    uv = np.array([[0, 0], [w, 0], [0, h], [w, h], [0.5 * w, 0.5 * h], [0.3 * w, 0.8 * h]])
    rays, valid = camera.unproject(uv)
    again, seen, _ = camera.project(rays)
    if not (np.isfinite(rays).all() and np.isfinite(again).all()):
        return np.inf
    ahead = valid & seen & (rays[:, 2] > 1e-3)
    if not ahead.any():
        return 0.0
    expected = project_by_opencv(case, rays[ahead])
    # Far off the axis, the rounding of a direction means more pixels.
    scale = _TOLERANCE_PX * max(1.0, *camera.K.ravel() / 1000) / rays[ahead, 2].min()
    off = np.maximum(
        np.abs(again[ahead] - expected).max(), 1e-3 * np.abs(uv[ahead] - expected).max()
    )
    return float(off / scale)


def run(messages: int, seed: int, progress: bool = False) -> Counter[str]:
    """Read messages.

    Returns:
        Counts of results: 'accepted', 'refused: <fault>', and errors:
        'crashed', 'wrong', 'not a sentence', 'sound but refused', 'broken but accepted'.
    """
    fuzz, ends = Fuzz(seed), Counter[str]()
    for _ in tqdm(range(messages), disable=not progress):
        case = fuzz.case()
        end = _end_of(case)
        ends[end] += 1
        if end in BAD:
            print(f'{end}: fault {case.fault!r}, rectified {case.rectified}, {case.info}')
    return ends


BAD = ('crashed', 'wrong', 'not a sentence', 'sound but refused', 'broken but accepted')


def _end_of(case: Case) -> str:
    try:
        camera = camera_from_info(case.info, case.rectified)
        findings(case.info, camera, case.rectified, '/image', 'camera')
        if case.fault:
            return 'broken but accepted'
        return 'accepted' if error_of(case, camera) <= 1 else 'wrong'
    except CameraInfoError as error:
        text = str(error)
        if not case.fault:
            print(text)
            return 'sound but refused'
        return (
            f'refused: {case.fault}' if len(text) > 20 and '\n' not in text else 'not a sentence'
        )
    except Exception as error:
        print(repr(error))
        return 'crashed'


def main() -> int:
    """Print the counts; exit status 1 if there are errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--messages', type=int, default=100_000)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    ends = run(options.messages, options.seed, progress=True)
    for end, count in sorted(ends.items()):
        print(f'{end:<32}{count:>8}')
    return int(any(ends[end] for end in BAD))


if __name__ == '__main__':
    sys.exit(main())
