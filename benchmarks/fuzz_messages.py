# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checks that malformed images and calibrations do not stop the node.

python benchmarks/fuzz_messages.py --messages 20000
"""

from __future__ import annotations

import argparse
import array
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from tqdm import tqdm

from face_pose_ros.ros.parameters import Parameters
from face_pose_ros.ros.pipeline import FrameError, FramePipeline
from face_pose_ros.samples import load_portraits

MAX_S = 1.0  # longer is a hang
_ENCODINGS = (
    ('rgb8',) * 9
    + ('bgr8', 'rgba8', 'bgra8', 'mono8', '16UC1', '32FC1', 'yuv422', 'bayer_rggb8', 'mono16')
    + ('8UC3', 'rgb9', '', '\x00')
)
_COEFFICIENTS = {
    'plumb_bob': (0, 4, 5),
    'rational_polynomial': (0, 8, 12),
    'equidistant': (0, 4),
    'fisheye': (0, 4),
    'x': (0, 100),
}
_ODD = (0.0, -1.0, 1e-300, 1e300, float('nan'), float('inf'), -float('inf'))


class Fuzz:
    """Messages that are valid but for a few fields."""

    def __init__(self, seed: int) -> None:
        """All messages follow from the seed."""
        self._rng = np.random.default_rng(seed)
        self._size = 96
        face = load_portraits()['astronaut'][:230, 110:340]
        self._portrait = cv2.resize(face, (self._size, self._size))
        self._count = 0

    def pair(self) -> tuple[Image | CompressedImage, CameraInfo]:
        """The next image and its CameraInfo."""
        self._count += 1
        stamp = Time(sec=self._count if self._rng.random() < 0.9 else self._int(2**31 - 1))
        header = Header(stamp=stamp, frame_id=self._one(['camera', '', 'a b/c']))
        image = self._compressed(header) if self._rng.random() < 0.3 else self._raw(header)
        return image, self._info(header)

    def _raw(self, header: Header) -> Image:
        encoding = self._one(_ENCODINGS)
        height, width = self._maybe_odd(self._size), self._maybe_odd(self._size)
        step = self._maybe_odd(3 * self._size)
        if self._rng.random() < 0.8:
            data = self._portrait.tobytes()
        else:
            data = self._rng.bytes(self._int(20_000))
        return Image(
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            step=step,
            is_bigendian=self._int(1),
            data=array.array('B', data),
        )

    def _compressed(self, header: Header) -> CompressedImage:
        kind = self._one(['.jpg', '.png'])
        data = bytearray(cv2.imencode(kind, self._portrait)[1].tobytes())
        for _ in range(self._int(5)):
            data[self._int(len(data) - 1)] = self._int(255)
        data = data[: self._one([len(data), self._int(len(data)), 0])]
        text = self._one(['jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'compressedDepth', ''])
        return CompressedImage(header=header, format=text, data=array.array('B', bytes(data)))

    def _info(self, header: Header) -> CameraInfo:
        f = 1.2 * self._size
        k = np.array([f, 0, 0.5 * self._size, 0, f, 0.4 * self._size, 0, 0, 1])
        model = self._one(list(_COEFFICIENTS))
        count = self._one(_COEFFICIENTS[model]) if self._rng.random() < 0.9 else self._int(20)
        coefficients = self._rng.normal(0, self._one([0.01, 0.1, 1.0]), count)
        for values in (k, coefficients):
            if len(values) and self._rng.random() < 0.15:
                values[self._int(len(values) - 1)] = self._one(_ODD)
        odd = self._rng.random() < 0.1
        return CameraInfo(
            header=header if self._rng.random() < 0.95 else Header(),
            height=self._maybe_odd(self._size),
            width=self._maybe_odd(self._size),
            distortion_model=model,
            d=coefficients.tolist(),
            k=k,
            binning_x=self._int(3) if odd else 0,
            binning_y=self._int(3) if odd else 0,
            roi=RegionOfInterest(x_offset=self._int(70), width=self._int(70), height=self._int(70))
            if odd
            else RegionOfInterest(),
        )

    def _maybe_odd(self, value: int) -> int:
        odd = [0, 1, value - 1, 4096, 2**31 - 1]
        return value if self._rng.random() < 0.95 else self._one(odd)

    def _int(self, most: int) -> int:
        return int(self._rng.integers(most + 1))

    def _one(self, choices: Sequence[Any]) -> Any:
        return choices[self._int(len(choices) - 1)]


def run(messages: int, seed: int, progress: bool = False) -> Counter[str]:
    """Feed pairs to a pipeline.

    Returns:
        How often frames ended in what: 'processed', the reason of a FrameError, or what must not
        be: 'crashed', 'hung', 'not finite'.
    """
    parameters = Parameters()
    pipeline = FramePipeline(parameters, '/image', '/camera_info', lambda cause, text: None)
    fuzz, ends = Fuzz(seed), Counter[str]()
    for _ in tqdm(range(messages), disable=not progress):
        image, info = fuzz.pair()
        start_s = time.process_time()  # CPU time: other processes do not count
        try:
            faces = pipeline.answer(image, info, parameters).faces
            ends['processed'] += 1
            ends['faces'] += len(faces)
            ends['not finite'] += not all(
                np.isfinite(face.T_cam_head).all() and np.isfinite(face.covariance).all()
                for face in faces
            )
        except FrameError as error:
            ends[error.reason] += 1
        except Exception as error:
            ends['crashed'] += 1
            print(f'{error!r}\n{str(image)[:300]}\n{info}')
        ends['hung'] += time.process_time() - start_s > MAX_S
    return ends


def main() -> int:
    """Print the counts; exit status 1 if there are errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--messages', type=int, default=20_000)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    ends = run(options.messages, options.seed, progress=True)
    for end, count in sorted(ends.items()):
        print(f'{end:<14}{count:>8}')
    return int(ends['crashed'] + ends['hung'] + ends['not finite'] > 0)


if __name__ == '__main__':
    sys.exit(main())
