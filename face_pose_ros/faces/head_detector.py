# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detection: one image -> every head with a box and a coarse 6-DoF pose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.faces.head_cells import (
    SIZE_MULTIPLE,
    STRIDES,
    decode,
    head_boxes,
    poses_of_cells,
)
from face_pose_ros.faces.head_uncertainty import HeadUncertainty
from face_pose_ros.faces.nms import nms
from face_pose_ros.faces.resize import resize
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import DetectorOptions
from face_pose_ros.results import CoarsePoses, Faces

SMALLEST_FACE_INPUT_PX = 16.0  # face height that the network needs
MIN_IMAGE_PX = 64
# Above this intersection over union of `head_boxes` two proposals are one head. Face boxes of one
# head with different rotations do not overlap enough.
_SAME_HEAD_IOU = 0.4
_MOST_PROPOSALS = 400  # the best ones, before suppression
# Above it, one in a thousand pictures without people has a head: needs no keypoints to confirm it.
SURE_SCORE = 0.8
_SMALLER = 0.8  # measured over true height of the smallest faces, at least

Images = NDArray[np.float32]  # (N, 3, H, W) RGB in [0, 1]
# Images -> for each stride (N, NUMBERS, H // stride, W // stride)
Network = Callable[[Images], Sequence[NDArray[np.float32]]]


class HeadDetector:
    """Finds every head that shows its face, from any side and at any roll, with a coarse pose."""

    def __init__(
        self,
        network: Network,
        xyz_face: NDArray[np.float64],
        uncertainty: HeadUncertainty,
        options: DetectorOptions | None = None,
    ) -> None:
        """Use a network with options.

        Args:
            network: The head detector's network on any engine.
            xyz_face: (P, 3) m, points of the mean face, whose bounds are the box.
            uncertainty: Calibration of the network.
            options: Sizes and thresholds.
        """
        self.network = network
        self.options = options or DetectorOptions()
        self._uncertainty = uncertainty
        self._xyz_face = xyz_face

    def detect(self, image_rgb: NDArray[np.uint8], camera: Camera) -> Faces:
        """Find heads.

        The image is scaled down as the options say, never up.

        Args:
            image_rgb: (H, W, 3) uint8 RGB in [0, 255], H and W at least 64.
            camera: The camera that took it.

        Returns:
            N >= 0 faces with coarse poses, best first, in full-image pixels: proposals, most of
            which keypoints have to confirm (`SURE_SCORE`). Boxes are squares around the face
            from the hairline to the chin; a box may reach beyond the image.

        Raises:
            ValueError: The image is not as above, or its size is not the camera's.
        """
        _check(image_rgb, camera)
        height, width = input_size(camera.height, camera.width, self.options)
        outputs = self.network(network_input(resize(image_rgb, height, width)))
        offset = float(self._uncertainty.score_offset)
        threshold = self.options.score_threshold
        least = math.log(threshold / (1 - threshold)) - offset
        cells = decode([output[0] for output in outputs], least)
        cells = cells.of(np.argsort(-cells.score, kind='stable')[:_MOST_PROPOSALS])
        scale = np.array([camera.width / width, camera.height / height])
        cells = cells._replace(
            uv=(cells.uv + 0.5) * scale - 0.5,
            log_size=cells.log_size + 0.5 * np.log(scale).sum(),
        )
        cells = cells.of(nms(head_boxes(cells), cells.score, _SAME_HEAD_IOU))
        T, valid = poses_of_cells(cells, camera)
        boxes = face_boxes(T, self._xyz_face, camera)
        # The measured size of the smallest faces may be a little smaller.
        large = boxes[:, 2] - boxes[:, 0] > _SMALLER * self.options.min_face_px
        usable = np.flatnonzero(valid & large & np.isfinite(boxes).all(-1))
        T, cells = T[usable], cells.of(usable)
        return Faces(
            boxes[usable].astype(np.float32),
            (0.5 * (1 + np.tanh(0.5 * (cells.score + offset)))).astype(np.float32),
            CoarsePoses(T, self._uncertainty.of_poses(T, cells.sigma, camera)),
        )


def face_boxes(
    T_cam_head: NDArray[np.float64], xyz_face: NDArray[np.float64], camera: Camera
) -> NDArray[np.float64]:
    """(M, 4) px: squares around the bounds of a face's points (P, 3) at poses (M, 4, 4).

    Not finite where the lens sees none of the points.
    """
    return _core.face_boxes(T_cam_head, xyz_face, camera.lens)


def input_size(height: int, width: int, options: DetectorOptions) -> tuple[int, int]:
    """Size (height, width) in px to which an image is scaled."""
    scale = min(
        SMALLEST_FACE_INPUT_PX / options.min_face_px, options.max_input_px / max(height, width)
    )
    return max(1, round(height * scale)), max(1, round(width * scale))


def network_input(picture: NDArray[np.uint8]) -> Images:
    """An image (H, W, 3) of [0, 255] as (1, 3, H, W) in [0, 1], with zeros below and on the right.

    The padded height and width are multiples of 32 and at least 64.
    """
    padded = (max(side + -side % SIZE_MULTIPLE, STRIDES[-1]) for side in picture.shape[:2])
    planes = np.zeros((1, 3, *padded), np.float32)
    _core.normalise(np.ascontiguousarray(picture), planes[0])
    return planes


def _check(image_rgb: NDArray[np.uint8], camera: Camera) -> None:
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
    if (camera.width, camera.height) != (shape[1], shape[0]):
        raise ValueError(
            f'the image is {shape[1]} x {shape[0]} but the camera is calibrated for '
            f'{camera.width} x {camera.height}'
        )
