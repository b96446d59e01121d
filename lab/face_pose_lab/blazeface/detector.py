# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detection by BlazeFace: one image -> boxes.

The network is fully convolutional, so every level of an image pyramid is one forward pass,
without tiles that cut faces. It finds faces of 16 to 130 input pixels; levels are a factor of 4
apart.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from face_pose_lab.blazeface.network import SIZE_MULTIPLE
from face_pose_ros.engines.network import Network
from face_pose_ros.faces.nms import box_overlaps, suppress
from face_pose_ros.faces.resize import resize
from face_pose_ros.options import DetectorOptions
from face_pose_ros.results import Faces

_STRIDE = 4  # input px from one proposal cell to the next
_SMALLEST_FACE_INPUT_PX, _LARGEST_FACE_INPUT_PX = 16.0, 130.0
_LEVEL_RATIO = 4.0
_SAME_IOU = 0.3
# A proposal with this share of its area inside a better one is a part of that face: on a level
# that is too fine, nose or mouth are proposed as a face.
_CONTAINED = 0.7


def level_sizes(height: int, width: int, options: DetectorOptions) -> list[tuple[int, int]]:
    """Sizes (height, width) in px to which an image is scaled, finest first."""
    scale = min(
        _SMALLEST_FACE_INPUT_PX / options.min_face_px, options.max_input_px / max(height, width)
    )
    sizes = [(round(height * scale), round(width * scale))]
    while min(height, width) * scale > _LARGEST_FACE_INPUT_PX:
        scale /= _LEVEL_RATIO
        sizes.append((max(1, round(height * scale)), max(1, round(width * scale))))
    return sizes


def network_input(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image (H, W, 3) of [0, 255] as (1, 3, H, W) in [-1, 1], padded to multiples of 32."""
    height, width = picture.shape[:2]
    padded = (height + -height % SIZE_MULTIPLE, width + -width % SIZE_MULTIPLE)
    planes = np.zeros((1, 3, *padded), np.float32)
    planes[0, :, :height, :width] = picture.transpose(2, 0, 1) * np.float32(2 / 255) - 1
    return planes


class BlazeFaceDetector:
    """Finds the upright faces of an image."""

    def __init__(self, network: Network, options: DetectorOptions) -> None:
        """Use the network on any engine, with options."""
        self._network, self._options = network, options

    def detect(self, image_rgb: NDArray[np.uint8]) -> Faces:
        """Boxes of an image (H, W, 3), best first, each face once."""
        height, width = image_rgb.shape[:2]
        picture, boxes, scores = image_rgb, [], []
        for size in level_sizes(height, width, self._options):
            picture = resize(picture, *size)
            scale = np.array([width / size[1], height / size[0]], np.float32)
            found, of_found = self._propose(network_input(picture))
            boxes.append((found + 0.5) * np.tile(scale, 2) - 0.5)
            scores.append(of_found)
        return _merged(np.concatenate(boxes), np.concatenate(scores))

    def _propose(self, image: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """Boxes (M, 4) in px of the input and scores (M,) above the threshold.

        The network measures from the corner of the image, half a pixel from the centre of pixel
        (0, 0).
        """
        logits, regressions = self._network(image)
        threshold = self._options.score_threshold
        cells = np.flatnonzero(logits[0] > math.log(threshold / (1 - threshold)))
        row, column = np.divmod(cells, image.shape[-1] // _STRIDE)
        centre = (np.stack([column, row], -1).astype(np.float32) + 0.5) * _STRIDE - 0.5
        numbers = regressions[0, cells]
        middle, half = numbers[:, :2] + centre, 0.5 * numbers[:, 2:4]
        boxes = np.concatenate([middle - half, middle + half], -1)
        return boxes, 0.5 * (1 + np.tanh(0.5 * logits[0, cells]))


def _merged(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Faces:
    """Proposals of the same face as their mean, weighted by score, with the best one's score."""
    order = np.argsort(-scores, kind='stable')
    boxes, scores = boxes[order], scores[order]
    iou, contained = box_overlaps(boxes)
    same = (iou >= _SAME_IOU) | (contained >= _CONTAINED)
    keep = suppress(same)
    # A dropped box may overlap several kept ones: it counts for the best of them only.
    claims = same & keep[:, None]
    np.fill_diagonal(claims, keep)
    first = claims & (claims.cumsum(0) == 1)
    similar = (iou >= _SAME_IOU) | np.diag(keep)  # a box of another size is no estimate
    weight = (first & similar)[keep] * scores
    return Faces(weight / weight.sum(1, keepdims=True) @ boxes, scores[keep])
