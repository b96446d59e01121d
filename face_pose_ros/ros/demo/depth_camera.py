# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth camera of the demo: heads of other sizes than the images alone suggest.

The mean face, scaled to a child's or a large size, is placed where its image matches the portrait,
in front of a wall. Holes, noise and quantisation are those of an active stereo camera.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import FaceModel, deformable_face

if TYPE_CHECKING:
    from face_pose_ros.ros.demo.scenes import Shot

# Pose of the mean face (interpupillary distance 63 mm) in each photograph's camera, as estimated:
# position [m], rotation vector from a frontal pose [rad]; and the size factor of the demo.
_HEADS = {
    'grace_hopper': ((0.0055, -0.089, 0.8543), (0.171, 0.009, -0.044), 1.09),
    'astronaut': ((-0.0471, -0.2397, 1.5711), (0.271, -0.004, 0.056), 0.85),
}
_R_FACING = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
_WALL_M = 0.7  # behind the head
_FOCAL_BASELINE_PX_M = 21.2  # of the stereo pair: disparity is this over z
_NOISE_PX, _STEP_PX, _HOLES = 0.08, 1 / 32, 0.05


def head_of(portrait: str) -> NDArray[np.float64]:
    """T_world_head (4, 4) [m] of a portrait's head in front of the depth camera."""
    position, turn, size = _HEADS[portrait]
    R = rotations.exp(np.array(turn)) @ _R_FACING
    return rotations.from_rt(R, size * np.array(position))


def depth_image(portrait: str, shot: Shot, seed: int) -> NDArray[np.uint16]:
    """Depth (H, W) [mm] of a shot, aligned to its picture; 0: no depth."""
    face, T_world_head, size = _face(), head_of(portrait), _HEADS[portrait][2]
    xyz_world = rotations.apply(T_world_head, size * face.xyz_head)
    xyz_cam = xyz_world @ shot.R_world_cam
    uv = shot.camera.project(xyz_cam).uv
    z = np.full((shot.camera.height, shot.camera.width), T_world_head[2, 3] + _WALL_M, np.float32)
    corners = xyz_cam[face.triangles, 2].mean(1)
    polygons = np.round(16 * uv[face.triangles]).astype(np.int32)
    for triangle in np.argsort(-corners):  # farthest first: nearer ones are drawn over it
        cv2.fillConvexPoly(z, polygons[triangle], (float(corners[triangle]),), shift=4)
    return _measured(z, np.random.default_rng(seed))


def _measured(z: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    noise, blobs = (
        cv2.GaussianBlur(rng.normal(size=z.shape).astype(np.float32), (0, 0), sigma)
        for sigma in (2.0, 4.0)
    )
    disparity = _FOCAL_BASELINE_PX_M / z + _NOISE_PX / noise.std() * noise
    disparity = np.round(disparity / _STEP_PX) * _STEP_PX
    z_mm = np.round(1000 * _FOCAL_BASELINE_PX_M / disparity).astype(np.uint16)
    z_mm[blobs > np.quantile(blobs, 1 - _HOLES)] = 0
    return z_mm


@cache
def _face() -> FaceModel:
    return deformable_face()
