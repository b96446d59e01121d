# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotate photographed heads out of plane: profile views of real skin, with exact labels.

    python -m face_pose_lab.keypoint_net.profiled PHOTOGRAPHS --out FOLDER --count 8000

After Zhu et al., "Face Alignment Across Large Poses", CVPR 2016, section 4: the face model fitted
to a nearly frontal photograph gives the depth of its pixels; between the face, the visible points
of the skull and the border of the picture the depth is interpolated linearly. This relief is
rotated about the head and rendered over the blurred picture. Labels are those of the rotated
model. Parts that the photograph does not show are stretched, as in the paper.

A shard is as one of rendered crops: pictures (N, 160, 160, 3), `uv`, `T_crop_head`, `K_crop`, and
`name` of the photograph.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation

from face_pose_lab.keypoint_net.examples import teacher_labels
from face_pose_lab.synthetic.rasterizer import rasterize
from face_pose_lab.torch_geometry.camera import torch_camera
from face_pose_lab.training.shards import (
    Shard,
    open_shards,
    shard_folder,
    write_manifest,
    write_shard,
)
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints import semantic
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Keypoints

MAX_SOURCE_TURN_DEG = 25.0  # largest angle to the camera of the photographs
MAX_TURN_DEG = 75.0  # largest angle to the camera of the results
_HEAD_CENTRE = np.array([-0.085, 0.0, -0.005])  # m, head frame: centre of rotation
_FACING = 0.15  # cosine above which a point of the skull counts as visible
_BORDER = 9  # points along each side of the picture
_BEHIND_M = 0.05  # depth of the border behind the centre of the head


class Turner:
    """Rotates the heads of photographs."""

    def __init__(self) -> None:
        self._face, self._head = deformable_face(), semantic_head()

    def shape_of(self, uv: NDArray, camera: Camera) -> tuple[NDArray, NDArray] | None:
        """Pose (4, 4) and shape (C,) of a head whose model points are at uv (86, 2) px."""
        keypoints = Keypoints(
            uv[None],
            np.broadcast_to(0.3 * np.eye(2), (1, len(uv), 2, 2)),
            np.ones(1),
        )
        options = PoseOptions(visibility=False, independent_keypoints=60.0)
        poses = fit_pose(keypoints, self._head, camera, options).poses
        if poses.failed[0]:
            return None
        return poses.T_cam_head[0], poses.shape[0]

    def relief(
        self, T: NDArray, shape: NDArray, camera: Camera
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Points (P, 3) m in the camera frame, and triangles (F, 3) between them."""
        face = self._face.points(shape[None])[0]
        head = self._head.points(shape[None])[0]
        skull = head[~semantic.IS_FACE]
        normals = self._head.normals[~semantic.IS_FACE] @ T[:3, :3].T
        skull_cam = skull @ T[:3, :3].T + T[:3, 3]
        facing = -(normals * skull_cam).sum(1) / np.linalg.norm(skull_cam, axis=1)
        xyz = np.concatenate([face @ T[:3, :3].T + T[:3, 3], skull_cam[facing > _FACING]])
        depth = (T[:3, :3] @ _HEAD_CENTRE + T[:3, 3])[2] + _BEHIND_M
        last = camera.width - 1.0
        along = np.linspace(0, last, _BORDER)
        none, full = np.zeros(_BORDER), np.full(_BORDER, last)
        border = np.concatenate(
            [
                np.column_stack(side)
                for side in ((along, none), (along, full), (none, along), (full, along))
            ]
        )
        rays, _ = camera.unproject(border)
        xyz = np.concatenate([xyz, rays / rays[:, 2:] * depth])
        uv = camera.project(xyz).uv
        inside = ((uv >= -0.01) & (uv <= last + 0.01)).all(1)
        xyz, uv = xyz[inside], uv[inside]
        return xyz, Delaunay(uv).simplices.astype(np.int64)

    def turned(
        self, picture: NDArray[np.uint8], uv: NDArray, camera: Camera, turn: Rotation
    ) -> tuple[NDArray[np.uint8], NDArray, NDArray] | None:
        """Picture, keypoints (86, 2) px and pose (4, 4) of the head after a rotation."""
        fitted = self.shape_of(uv, camera)
        if fitted is None:
            return None
        T, shape = fitted
        xyz, triangles = self.relief(T, shape, camera)
        centre = T[:3, :3] @ _HEAD_CENTRE + T[:3, 3]
        R = turn.as_matrix()
        moved = (xyz - centre) @ R.T + centre
        corners = torch.from_numpy(triangles)
        seen = rasterize(torch.from_numpy(moved)[None], corners, torch_camera(camera))
        before = seen.interpolate(torch.from_numpy(xyz).float(), corners)
        flat = np.full((camera.height * camera.width, 2), -1, np.float32)
        flat[seen.pixel.numpy()] = camera.project(before.numpy()).uv
        maps = flat.reshape(camera.height, camera.width, 2)
        warped = cv2.remap(
            picture,
            maps[..., 0],
            maps[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        hole = (maps[..., 0] < 0).astype(np.uint8)
        behind = cv2.GaussianBlur(picture, (0, 0), 6)
        drawn = np.where(hole[..., None] > 0, behind, warped).astype(np.uint8)
        T_new = T.copy()
        T_new[:3, :3] = R @ T[:3, :3]
        T_new[:3, 3] = R @ (T[:3, 3] - centre) + centre
        points = self._head.points(shape[None])[0] @ T_new[:3, :3].T + T_new[:3, 3]
        return drawn, camera.project(points).uv, T_new


def random_turn(rng: np.random.Generator) -> Rotation:
    """A random rotation about the picture's axes, mainly to the side."""
    yaw = rng.choice([-1, 1]) * rng.uniform(15, 65)
    pitch = rng.normal(0, 10)
    return Rotation.from_euler('yx', [yaw, pitch], degrees=True)


def turn_of(T: NDArray) -> float:
    """Angle [deg] between the facing direction and the direction to the camera."""
    to_camera = -T[:3, 3] / np.linalg.norm(T[:3, 3])
    return float(np.degrees(np.arccos(np.clip(T[:3, 0] @ to_camera, -1, 1))))


def main(args: Sequence[str] | None = None) -> None:
    """Process the photographs that are not processed yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('photographs', type=Path, help='folder of label_photographs')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--count', type=int, default=8000)
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    turner, made = Turner(), 0
    write_manifest(options.out, {'source': str(options.photographs.name), 'kind': 'profiled'})
    for number, shard in enumerate(open_shards(options.photographs)):
        if made >= options.count:
            break
        if Shard(shard_folder(options.out, number)).is_complete:
            made += len(Shard(shard_folder(options.out, number)).pictures)
            continue
        rng = np.random.default_rng((11, number))
        found = []
        rows, _ = teacher_labels(shard.labels)
        for row in rows:
            T = shard.labels['mesh_T'][row].astype(np.float64)
            if not np.isfinite(T).all() or turn_of(T) > MAX_SOURCE_TURN_DEG:
                continue
            K = shard.labels['K_crop'][row].astype(np.float64)
            picture = np.array(shard.pictures[row])
            camera = Camera.from_K(K, picture.shape[1], picture.shape[0])
            uv = shard.labels['mesh_uv'][row].astype(np.float64)
            result = turner.turned(picture, uv, camera, random_turn(rng))
            if result is None or turn_of(result[2]) > MAX_TURN_DEG:
                continue
            found.append((*result, K, shard.labels['name'][row]))
        if not found:
            continue
        pictures, uvs, poses, Ks, names = (np.stack(part) for part in zip(*found, strict=True))
        labels = {
            'uv': uvs.astype(np.float32),
            'T_crop_head': poses.astype(np.float32),
            'K_crop': Ks.astype(np.float32),
            'name': names,
        }
        write_shard(shard_folder(options.out, number), pictures, labels)
        made += len(pictures)
        print(f'{number}: {len(pictures)} of {len(rows)}', flush=True)


if __name__ == '__main__':
    main()
