# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Locations of the network's keypoints on the skin, measured on heads of known shape."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from face_pose_lab.evaluation.rendered_heads import RenderedHeads
from face_pose_lab.synthetic.ict_facekit import IctFaceKit
from numpy.typing import NDArray
from skin_registration import (
    Array,
    Ids,
    Skin,
    SkinPoints,
    mirrored,
    rms,
    unit,
    vertex_normals,
)

# Rendered heads that count: presence, angle between gaze and camera, and per keypoint the cosine
# between skin and view.
FACE_VERTICES = 9409  # the first of ICT-FaceKit's are its part FACE
MIN_PRESENCE, MAX_TURN, MIN_FACING = 0.5, np.radians(45), 0.2
SIGMA_M, HUBER_M = 0.002, 0.005  # of a measured keypoint, at the face
SLIDE_PRIOR_M, MAX_STEP_M = 0.005, 0.002


@dataclass(frozen=True)
class Measurements:
    """The network's keypoints on rendered heads that face the camera approximately.

    Each head has a view frame: that of the camera, turned so that the optical axis meets the
    sellion and the head's y axis lies level.
    """

    skin: NDArray[np.float32]  # (M, V, 3) m, vertices of the face, in the head frame
    T_view_head: Array  # (M, 4, 4)
    xy: Array  # (M, K, 2) m, where the network's rays meet the plane z = distance of the sellion

    @classmethod
    def load(cls, path: Path, facekit: IctFaceKit, keypoints: int) -> Measurements:
        """Read what `face_pose_lab.evaluation.rendered_heads --export` wrote."""
        heads = RenderedHeads.load(path)
        if not np.allclose(heads.mean_landmarks, facekit.neutral[facekit.landmark68_vertices]):
            sys.exit(f'{path}: made with another head frame; render it again')
        skin, T, xy = [], [], []
        for i in np.flatnonzero(heads.presence > MIN_PRESENCE):
            head = heads.head(i)
            T_view_head, R_view_cam = view_of(head.T_cam_head)
            if T_view_head[2, 0] > -np.cos(MAX_TURN):
                continue
            uv = torch.from_numpy(heads.uv[i, :keypoints])
            rays = head.camera.unproject(uv).rays.numpy() @ R_view_cam.T
            vertices = facekit.vertices(head.identity[None], head.expression[None])[0]
            skin.append(vertices[:FACE_VERTICES])
            T.append(T_view_head)
            xy.append(T_view_head[2, 3] * rays[:, :2] / rays[:, 2:])
        return cls(np.stack(skin), np.stack(T), np.stack(xy))

    def residuals(self, points: SkinPoints) -> tuple[Array, Array, Array]:
        """Measured minus projected (M, K, 2) [m], d projected / d point (M, K, 2, 3), and the
        direction in the head frame from each point to the camera (M, K, 3).
        """  # noqa: D205
        R, t = self.T_view_head[:, :3, :3], self.T_view_head[:, None, :3, 3]
        xyz = points.of(self.skin) @ R.swapaxes(1, 2) + t
        z, distance = xyz[..., 2:], t[..., 2:]
        J = np.concatenate(
            [np.broadcast_to(np.eye(2), (*z.shape[:2], 2, 2)), -(xyz[..., :2] / z)[..., None]], -1
        )
        J = (distance / z)[..., None] * (J @ R[:, None])
        return self.xy - distance * xyz[..., :2] / z, J, unit(-xyz) @ R


def view_of(T_cam_head: Array) -> tuple[Array, Array]:
    """T_view_head (4, 4) and R_view_cam (3, 3) of the view frame of Measurements."""
    z = unit(T_cam_head[:3, 3])
    x = unit(T_cam_head[:3, 1] - (T_cam_head[:3, 1] @ z) * z)
    R = np.stack([x, np.cross(z, x), z])
    T = np.eye(4)
    T[:3] = R @ T_cam_head[:3]
    return T, R


def slide(
    points: SkinPoints, skin: Skin, measurements: Measurements, partner: Ids, triangles: Ids
) -> SkinPoints:
    """Move the points over the skin until the mean residual of the measurements is minimal.

    Minimises, for each keypoint and its mirror partner together, the Huber loss of the residuals
    over all views that the point faces, plus a Gaussian prior about where it started.
    """
    start = points.of(skin.xyz)
    for _ in range(15):
        xyz = points.of(skin.xyz)
        normals = vertex_normals(xyz, triangles)
        n = skin.normals[skin.nearest(xyz, normals)[1]]
        r, J, view = measurements.residuals(points)
        length = np.linalg.norm(r, axis=-1)
        weight = np.minimum(1, HUBER_M / np.maximum(length, 1e-9)) / SIGMA_M**2
        weight[(view * normals).sum(-1) < MIN_FACING] = 0
        H = np.einsum('mk,mkai,mkaj->kij', weight, J, J)
        g = np.einsum('mk,mkai,mka->ki', weight, J, r)
        H += mirrored(mirrored(H[partner]).swapaxes(1, 2))
        g += mirrored(g[partner]) + (start - xyz) / SLIDE_PRIOR_M**2
        H += np.eye(3) / SLIDE_PRIOR_M**2
        # Along the normal it costs a thousand times as much: the points stay on the skin.
        H += 1e3 * np.trace(H, axis1=1, axis2=2)[:, None, None] * n[:, :, None] * n[:, None, :]
        step = np.linalg.solve(H, g[..., None])[..., 0]
        step /= np.maximum(1, np.linalg.norm(step, axis=1, keepdims=True) / MAX_STEP_M)
        points = skin.symmetric(skin.nearest(xyz + step, normals)[0], partner)
    return points


def describe(
    title: str, measurements: Measurements, points: SkinPoints, skin: Skin, triangles: Ids
) -> None:
    """Print the rms over keypoints of the mean residual, and of all residuals."""
    r, _, view = measurements.residuals(points)
    seen = (view * vertex_normals(points.of(skin.xyz), triangles)).sum(-1) > MIN_FACING
    mean = (seen[..., None] * r).sum(0) / np.maximum(seen.sum(0), 1)[:, None]
    print(f'{title}: mean residual {1e3 * rms(mean):.2f} mm, all {1e3 * rms(r[seen]):.2f} mm')
