# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random attitudes of heads, and visibility of their keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.synthetic.sampling import attitude, look_along
from face_pose_lab.training.heads.mesh import Floats, Layer, Person
from face_pose_lab.training.heads.renderer import Loaded, Renderer
from face_pose_lab.training.heads.staging import Lens, Pose

Array = NDArray[np.float64]
Rng = np.random.Generator

HEAD_HEIGHT_M = 0.24  # what head_size_px measures
HEAD_CENTRE = (-0.085, 0.0, -0.005)  # m, head frame
_SURFACE_M = 0.004  # how far a keypoint may lie behind the drawn surface
_CLEAR_M = 0.12  # what a camera keeps to everything it sees
_GRAZING = 0.08  # cosine between the view and a keypoint's normal from which it is seen
_AWAY = -0.95  # at most so far does it turn away: normals at lids and lips mean little
_ABOVE_M = 0.001  # hair over a keypoint is at least so far above it


def random_attitude(rng: Rng) -> Array:
    """R (3, 3) of a head as seen along the ray to it."""
    yaw = rng.uniform(-100, 100) if rng.uniform() < 0.85 else rng.uniform(-180, 180)
    pitch = rng.normal(0, 20) if rng.uniform() < 0.8 else rng.uniform(-60, 60)
    roll = rng.normal(0, 17) if rng.uniform() < 0.67 else rng.uniform(-90, 90)
    return attitude(roll, yaw, np.clip(pitch, -60, 60))


def random_torso(R_view_head: Array, rng: Rng) -> Array:
    """(3,) rotation vector of the torso against the head [rad], head frame.

    Half of the torsos rather face the camera: people turn their heads, not all of themselves.
    """
    # The direction in which the torso would face the camera, seen from the head.
    towards = -R_view_head[2]
    yaw = np.degrees(np.arctan2(towards[1], towards[0]))
    pull = 0.4 * np.clip(yaw, -90, 90) if rng.uniform() < 0.5 else 0.0
    turn = np.clip(rng.normal(pull, 22), -65, 65)
    nod, tilt = np.clip(rng.normal(0, (11, 8)), -26, 26)
    R = Rotation.from_euler('ZYX', [turn, nod, tilt], degrees=True)
    return np.asarray(R.as_rotvec())


def facing_pose(R_view_head: Array, ray: Array, distance_m: float) -> Array:
    """T_cam_head (4, 4) of a head in a direction (3,), with an attitude seen along that ray."""
    T = np.eye(4)
    T[:3, :3] = look_along(ray) @ R_view_head
    T[:3, 3] = ray / np.linalg.norm(ray) * distance_m
    return T


def clear_of_camera(person: Person, T_cam_head: Array) -> Array:
    """T_cam_head moved away along its ray until all of the person is before the camera."""
    T = T_cam_head.copy()
    ends = np.concatenate([part.mesh.xyz[::7] for part in person.parts])
    depth = ends @ T[2, :3]
    ray = T[:3, 3] / np.linalg.norm(T[:3, 3])
    missing = _CLEAR_M - (float(depth.min()) + T[2, 3])
    if missing > 0:
        T[:3, 3] += ray * missing / ray[2]
    return T


def transformed(T: Array, xyz: NDArray[np.floating]) -> Array:
    """Points (..., 3) moved by T (4, 4)."""
    return np.asarray(xyz @ T[:3, :3].T + T[:3, 3])


def project(xyz_cam: Array, lens: Lens) -> Array:
    """Pixels (P, 2) of points (P, 3) in front of a camera."""
    uv = cv2.projectPoints(
        xyz_cam, np.zeros(3), np.zeros(3), lens.K, np.array(lens.dist, np.float64)
    )[0]
    return np.asarray(uv[:, 0])


@dataclass(frozen=True)
class Seen:
    """Visibility of one head."""

    uv: Array  # (K, 2) px
    visible: NDArray[np.bool_]  # (K,)
    covered: NDArray[np.bool_]  # (K,)
    visible_if_bare: NDArray[np.bool_]  # (K,) the same without objects


def look(renderer: Renderer, loaded: Loaded, pose: Pose, lens: Lens) -> Seen:
    """Visibility of keypoints by depth; other people are not considered."""
    person = loaded.person
    xyz_cam = transformed(pose.T_cam_head, person.keypoints)
    uv = project(xyz_cam, lens)
    normals = person.normals @ pose.T_cam_head[:3, :3].T
    facing = -(normals * xyz_cam).sum(1) / np.linalg.norm(xyz_cam, axis=1)
    inside = ((uv > -0.5) & (uv < (lens.width - 0.5, lens.height - 0.5))).all(1)
    depth = xyz_cam[:, 2]

    body_z = renderer.depth(loaded, pose, lens, {Layer.BODY})
    # At a silhouette the pixel shows what lies before or behind: the normal decides.
    near_edge = (facing > _GRAZING) & (depth < farthest_near(body_z, uv) + _SURFACE_M)
    visible = inside & (near_edge | (depth < at_pixel(body_z, uv) + _SURFACE_M) & (facing > _AWAY))
    if_bare = visible.copy()
    layers = {part.layer for part in person.parts}
    covered = np.zeros_like(visible)
    if Layer.OBJECT in layers:
        object_z = renderer.depth(loaded, pose, lens, {Layer.OBJECT})
        visible &= depth < at_pixel(object_z, uv)
    if Layer.COVER in layers:
        cover_z = renderer.depth(loaded, pose, lens, {Layer.COVER})
        covered = inside & (depth - _ABOVE_M > at_pixel(cover_z, uv))
    return Seen(uv, visible, covered, if_bare)


def at_pixel(z: Floats, uv: Array) -> Floats:
    """(P,) depth at the nearest pixel of each of (P, 2)."""
    height, width = z.shape
    column = np.clip(np.rint(uv[:, 0]), 0, width - 1).astype(int)
    row = np.clip(np.rint(uv[:, 1]), 0, height - 1).astype(int)
    return np.asarray(z[row, column])


def farthest_near(z: Floats, uv: Array) -> Floats:
    """(P,) largest depth among the 3 x 3 pixels about each of (P, 2).

    A surface seen at a grazing angle changes its depth within a pixel.
    """
    steps = np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1)), -1).reshape(9, 1, 2)
    near = (uv + steps).reshape(-1, 2)
    return np.asarray(at_pixel(z, near).reshape(9, -1).max(0))
