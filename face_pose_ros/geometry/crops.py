# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Square crops of an image, rendered by virtual cameras, and the exact map of their pixels.

A crop is the image of a virtual pinhole camera at the centre of the real one. Its optical axis
meets the face, and it is rolled until the face is upright. So the crop does not depend on the
rotation, focal length and distortion of the real camera, and each of its pixels has an exact ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros import _core
from face_pose_ros._core import Upright
from face_pose_ros.geometry.camera import Camera

Array = NDArray[np.float64]

# Pixel maps are exact at nodes so many pixels apart and linear in between: over this distance a
# lens is linear to 0.01 px.
NODE_SPACING_PX = _core.NODE_SPACING_PX
# Largest step in the image between neighbouring crop pixels. Above it the image is halved before
# sampling, so that a close face is not aliased.
MAX_STEP_PX = _core.MAX_STEP_PX


@dataclass(eq=False)
class Crops:
    """Virtual cameras of N square crops; the principal point is the crop's centre."""

    R_cam_crop: Array  # (N, 3, 3); a negated first column mirrors the crop
    focal_px: Array  # (N,)
    valid: NDArray[np.bool_]  # (N,): all points that define the crop have a ray
    size_px: int  # side of the crop, a multiple of NODE_SPACING_PX

    def __len__(self) -> int:
        return len(self.focal_px)

    def rays(self, uv_crop: ArrayLike) -> Array:
        """Directions (N, P, 3) in the camera frame of crop pixels (N, P, 2); not unit vectors."""
        middle = 0.5 * (self.size_px - 1)
        xy = (np.asarray(uv_crop, dtype=np.float64) - middle) / self.focal_px[:, None, None]
        rays_crop = np.concatenate([xy, np.ones_like(xy[..., :1])], -1)
        return rays_crop @ self.R_cam_crop.swapaxes(-1, -2)

    def to_image(self, uv_crop: ArrayLike, camera: Camera) -> tuple[Array, NDArray[np.bool_]]:
        """Image pixels (N, P, 2) of crop pixels (N, P, 2), and whether they are valid."""
        uv, valid, _ = camera.project(self.rays(uv_crop))
        return uv, valid & self.valid[:, None]

    def jacobian(self, camera: Camera) -> Array:
        """(N, 2, 2) derivative of the image pixel by the crop pixel, at the centre of the crop."""
        return _core.crop_jacobians(camera.lens, self.R_cam_crop, self.focal_px)

    def rolled(self, angles: Array) -> Crops:
        """The same crops turned about their axes by angles (N,) [rad]."""
        c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
        x, y, z = np.moveaxis(self.R_cam_crop, -1, 0)
        R = np.stack([c * x + s * y, c * y - s * x, z], -1)
        return Crops(R, self.focal_px, self.valid, self.size_px)

    def __getitem__(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Crops:
        """Some of the crops, by a (M,) index or (N,) mask."""
        return Crops(self.R_cam_crop[index], self.focal_px[index], self.valid[index], self.size_px)


def crops_around_boxes(
    boxes_xyxy: ArrayLike, camera: Camera, size_px: int, margin: float
) -> Crops:
    """Crops around the boxes of upright faces.

    Args:
        boxes_xyxy: (N, 4) px.
        camera: The camera of the image.
        size_px: Side of the crops.
        margin: Side of the crop over the longer side of the box.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64, order='C')
    return Crops(*_core.aim_at_boxes(boxes, camera.lens, size_px, margin), size_px)


def crops_around_keypoints(
    uv: ArrayLike, upright: Upright, camera: Camera, size_px: int, margin: float
) -> Crops:
    """Crops around measured keypoints of this or the last image.

    Args:
        uv: (N, K, 2) px; their bounding square, in the crop's own plane, is enlarged by margin.
        upright: Indices of the keypoints that define the roll.
        camera: The camera of the image.
        size_px: Side of the crops.
        margin: Side of the crop over the longer side of the bounding box.
    """
    points = np.asarray(uv, dtype=np.float64, order='C')
    return Crops(*_core.aim_at_keypoints(points, upright, camera.lens, size_px, margin), size_px)


def render_crops(image: NDArray[np.uint8], crops: Crops, camera: Camera) -> NDArray[np.float32]:
    """Render the images of the virtual cameras.

    Args:
        image: (H, W, 3) uint8 RGB, with any strides.
        crops: N crops.
        camera: The camera of the image.

    Returns:
        (N, 3, size, size) float32 RGB in [0, 1]; outside the image its border is repeated.
    """
    if image.strides[1:] != (3, 1) or image.strides[0] < 0:
        image = np.ascontiguousarray(image)
    return _core.render_crops(image, camera.lens, crops.R_cam_crop, crops.focal_px, crops.size_px)
