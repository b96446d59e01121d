# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Base class of the networks of all engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops, render_crops

Outputs = tuple[NDArray[np.float32], ...]
# (N, 3, H, W) float32: an array, or a tensor of the GPU from `Network.render`.
Pictures = Any


class Network:
    """A packaged network in any engine; calls are independent of each other."""

    def __call__(self, pictures: Pictures) -> Outputs:
        """The outputs for N >= 1 pictures: new arrays of N rows each."""
        raise NotImplementedError

    def on_crops(
        self, image: NDArray[np.uint8], crops: Crops, camera: Camera, shrink: int = 1
    ) -> Outputs:
        """The outputs for crops of an image; arguments as in `render`."""
        return self(self.render(image, crops, camera, shrink))

    def render(
        self, image: NDArray[np.uint8], crops: Crops, camera: Camera, shrink: int = 1
    ) -> Pictures:
        """Pictures of crops, in the memory of the network's device.

        Args:
            image: (H, W, 3) RGB.
            crops: N crops.
            camera: The image's camera.
            shrink: Each pixel is the mean of shrink x shrink rendered ones.
        """
        pictures = render_crops(image, finer(crops, shrink), camera)
        if shrink == 1:
            return pictures
        size = crops.size_px
        return pictures.reshape(len(crops), 3, size, shrink, size, shrink).mean((3, 5))

    def join(self, pictures: Sequence[Pictures]) -> Pictures:
        """Concatenate batches."""
        return np.concatenate(pictures)


def finer(crops: Crops, scale: int) -> Crops:
    """The same crops with `scale` times as many pixels in each direction."""
    if scale == 1:
        return crops
    return Crops(
        R_cam_crop=crops.R_cam_crop,
        focal_px=scale * crops.focal_px,
        valid=crops.valid,
        size_px=scale * crops.size_px,
    )
