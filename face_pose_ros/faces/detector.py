# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Face detection: one image -> Faces.

BlazeFace full range is fully convolutional, so every level of an image pyramid is one forward
pass, without tiles that cut faces. It finds faces of 16 to 130 input pixels; levels are a factor
of 4 apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.faces.blazeface import SIZE_MULTIPLE, STRIDE, decode_proposals
from face_pose_ros.faces.nms import merge_proposals
from face_pose_ros.faces.resize import resize
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.jit import compiled
from face_pose_ros.options import DetectorOptions
from face_pose_ros.results import Faces

SMALLEST_FACE_INPUT_PX = 16.0  # face height that the network needs
LARGEST_FACE_INPUT_PX = 130.0  # largest face height that it finds as one face
LEVEL_RATIO = 4.0  # below LARGEST / SMALLEST, so neighbouring levels overlap
# A proposal with this share of its area inside a better one is a part of that face: on a level
# that is too fine, nose or mouth are proposed as a face.
CONTAINED = 0.7
MIN_IMAGE_PX = 64

Pictures = NDArray[np.float32]  # (N, 3, H, W)
# Images in [-1, 1] -> logits (N, C), regressions (N, C, 16)
Network = Callable[[Pictures], Sequence[NDArray[np.float32]]]


class Level(NamedTuple):
    """One image of the pyramid."""

    picture: Pictures  # (1, 3, H, W) in [-1, 1], mid-grey up to multiples of 32 px
    scale: NDArray[np.float32]  # (2,) px of the full image per px of this one: x, y


def level_sizes(height: int, width: int, options: DetectorOptions) -> list[tuple[int, int]]:
    """Sizes (height, width) in px to which an image is scaled, finest first."""
    scale = min(
        SMALLEST_FACE_INPUT_PX / options.min_face_px, options.max_input_px / max(height, width)
    )
    sizes = [(round(height * scale), round(width * scale))]
    # A face can fill the image's shorter side.
    while min(height, width) * scale > LARGEST_FACE_INPUT_PX:
        scale /= LEVEL_RATIO
        sizes.append((max(1, round(height * scale)), max(1, round(width * scale))))
    return sizes


class FaceDetector:
    """Finds all faces of at least a given size, in images of any size."""

    def __init__(self, network: Network, options: DetectorOptions | None = None) -> None:
        """Use a network with options.

        Args:
            network: BlazeFace full range on any engine; takes images whose sides are multiples
                of 32 px.
            options: Sizes and thresholds.
        """
        self.network = network
        self.options = options or DetectorOptions()

    def detect(self, image_rgb: NDArray[np.uint8]) -> Faces:
        """Find faces.

        Misses faces that are smaller than the options allow, rolled by more than about 90 deg,
        seen in profile, or covered. At the smallest size one in thirty upright frontal faces is
        missed, from 1.25 times that size on none.

        Args:
            image_rgb: (H, W, 3) uint8 RGB in [0, 255], H and W at least 64.

        Returns:
            N >= 0 faces, best first, float32, in full-image pixels. Boxes reach from the hairline
            to the chin and are about square.

        Raises:
            ValueError: The image is not as above.
        """
        check_image(image_rgb)
        first, *rest = map(self._propose, self._pyramid(image_rgb))
        for proposals in rest:
            first = first.join(proposals)
        return merge_proposals(first, self.options.nms_iou, CONTAINED)

    def deferred(self, image_rgb: NDArray[np.uint8], _camera: Camera) -> Callable[[], Faces]:
        """A function that detects faces later, without the caller's image."""
        # A copy takes the caller a sixth of the time of the pyramid.
        return partial(self.detect, image_rgb.copy())

    def _pyramid(self, image_rgb: NDArray[np.uint8]) -> list[Level]:
        height, width = image_rgb.shape[:2]
        picture, levels = image_rgb, []
        for size in level_sizes(height, width, self.options):
            picture = resize(picture, *size)
            scale = np.array([width / size[1], height / size[0]], np.float32)
            levels.append(Level(network_input(picture), scale))
        return levels

    def _propose(self, level: Level) -> Faces:
        """All proposals above the threshold on one level, in full-image pixels, unmerged."""
        logits, regressions = self.network(level.picture)
        least = math.log(self.options.score_threshold / (1 - self.options.score_threshold))
        cells = np.flatnonzero(logits[0] > least)
        grid_width = level.picture.shape[-1] // STRIDE
        boxes, points = decode_proposals(regressions[0, cells], cells, grid_width)
        return Faces(
            (boxes + np.float32(0.5)) * np.tile(level.scale, 2) - np.float32(0.5),
            sigmoid(logits[0, cells]),
            (points + np.float32(0.5)) * level.scale - np.float32(0.5),
        )


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Probabilities of logits, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits))


def network_input(picture: NDArray[np.uint8]) -> Pictures:
    """An image (H, W, 3) of [0, 255] as (1, 3, H, W) in [-1, 1], padded to multiples of 32."""
    height, width = picture.shape[:2]
    padded = (height + -height % SIZE_MULTIPLE, width + -width % SIZE_MULTIPLE)
    planes = np.zeros((1, 3, *padded), np.float32)
    _normalise(np.ascontiguousarray(picture), planes[0])
    return planes


@compiled
def _normalise(picture: NDArray[np.uint8], planes: NDArray[np.float32]) -> None:
    """Scale and transpose in one pass over the image."""
    scale, one = np.float32(2 / 255), np.float32(1)
    for row in range(picture.shape[0]):
        pixels = picture[row]
        for channel in range(3):
            line = planes[channel, row]
            for column in range(picture.shape[1]):
                line[column] = scale * np.float32(pixels[column, channel]) - one


def check_image(image_rgb: NDArray[np.uint8]) -> None:
    """Raise ValueError for an unusable image, see `FaceDetector.detect`."""
    shape = image_rgb.shape
    if (
        image_rgb.dtype != np.uint8
        or len(shape) != 3
        or shape[2] != 3
        or min(shape[:2]) < MIN_IMAGE_PX
    ):
        raise ValueError(
            f'expected an RGB image of shape (H, W, 3), H and W at least {MIN_IMAGE_PX}, uint8; '
            f'got shape {shape}, {image_rgb.dtype}'
        )
