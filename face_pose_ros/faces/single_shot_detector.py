# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detection by the single-shot network and its second stage: faces with coarse 6-DoF poses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.faces.detector import SMALLEST_FACE_INPUT_PX, check_image, sigmoid
from face_pose_ros.faces.head_uncertainty import HeadUncertainty
from face_pose_ros.faces.region_pose import PROPOSED_FROM, pose_proposals
from face_pose_ros.faces.region_pose import Network as RegionNetwork
from face_pose_ros.faces.resize import resize
from face_pose_ros.faces.single_shot import (
    Network,
    boxes_of_poses,
    cells_of_picture,
    decode_faces,
)
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import DetectorOptions
from face_pose_ros.results import CoarsePoses, Faces

_SMALLER = 0.8
# Face Mesh points whose means are the anchors of `Faces`, in order.
_ANCHORS = ((33, 133), (263, 362), (1, 1), (13, 14), (234, 234), (454, 454))


class SingleShotDetector:
    """Finds all faces of at least a given size, with coarse poses."""

    def __init__(
        self,
        network: Network,
        region_network: RegionNetwork,
        xyz_head: NDArray[np.float64],
        uncertainty: HeadUncertainty,
        options: DetectorOptions | None = None,
    ) -> None:
        """Use networks with options.

        Args:
            network: The single-shot network on any engine; takes images whose sides are multiples
                of 32 px.
            region_network: Of the second stage, likewise.
            xyz_head: (468, 3) m, the mean face in the order of the Face Mesh.
            uncertainty: Calibration of both networks together.
            options: Sizes and thresholds.
        """
        self.network = network
        self.region_network = region_network
        self.options = options or DetectorOptions()
        self._uncertainty = uncertainty
        self._xyz_head = xyz_head
        self._anchors = np.stack([xyz_head[list(i)].mean(0) for i in _ANCHORS])

    def detect(self, image_rgb: NDArray[np.uint8], camera: Camera) -> Faces:
        """Find faces.

        The image is scaled down as the options say, never up.

        Args:
            image_rgb: (H, W, 3) uint8 RGB in [0, 255], H and W at least 64.
            camera: The camera that took it.

        Returns:
            N >= 0 faces with coarse poses, best first, in full-image pixels, boxes as those of
            `FaceDetector`.

        Raises:
            ValueError: The image is not as above, or its size is not the camera's.
        """
        check_image(image_rgb)
        height, width = image_rgb.shape[:2]
        if (camera.width, camera.height) != (width, height):
            raise ValueError(
                f'the image is {width} x {height} but the camera is calibrated for '
                f'{camera.width} x {camera.height}'
            )
        size = input_size(height, width, self.options)
        proposed = decode_faces(
            cells_of_picture(self.network, resize(image_rgb, *size)),
            camera.resize(size[1], size[0]),
            self._xyz_head,
            PROPOSED_FROM,
        )
        heads = pose_proposals(self.region_network, image_rgb, proposed, camera)
        scores = sigmoid(heads.logits + self._uncertainty.score_offset)
        boxes = self._square_boxes(heads.T_cam_head, camera)
        # The measured size of the smallest faces may be a little smaller.
        least_px = _SMALLER * self.options.min_face_px
        large = (boxes[:, 2:] - boxes[:, :2]).min(-1) > least_px
        kept = (scores > self.options.score_threshold) & large & np.isfinite(boxes).all(-1)
        T, _, sigma = heads.of(kept)
        anchors, valid, _ = camera.project(rotations.apply(T, self._anchors))
        return Faces(
            boxes[kept].astype(np.float32),
            scores[kept].astype(np.float32),
            np.where(valid[..., None], anchors, np.nan).astype(np.float32),
            CoarsePoses(T, self._uncertainty.of_poses(T, sigma, camera)),
        )

    def deferred(self, image_rgb: NDArray[np.uint8], camera: Camera) -> Callable[[], Faces]:
        """A function that detects faces later, without the caller's image."""
        return partial(self.detect, image_rgb.copy(), camera)

    def _square_boxes(
        self, T_cam_head: NDArray[np.float64], camera: Camera
    ) -> NDArray[np.float64]:
        """(N, 4) px, as those of `FaceDetector`."""
        bounds = boxes_of_poses(T_cam_head, self._xyz_head, camera)
        middle = 0.5 * (bounds[:, :2] + bounds[:, 2:])
        half = 0.5 * (bounds[:, 2:] - bounds[:, :2]).max(-1, keepdims=True)
        return np.concatenate([middle - half, middle + half], -1)


def input_size(height: int, width: int, options: DetectorOptions) -> tuple[int, int]:
    """Size (height, width) in px to which an image is scaled."""
    scale = min(
        SMALLEST_FACE_INPUT_PX / options.min_face_px, options.max_input_px / max(height, width)
    )
    return max(1, round(height * scale)), max(1, round(width * scale))
