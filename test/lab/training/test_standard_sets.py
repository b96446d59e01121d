# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Standard data sets, written here as their publishers write them, become shards."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.head_detector.sources import Scenes
from face_pose_lab.training.batches import CropSource
from face_pose_lab.training.standard_sets import (
    _MESH_OF_5,
    MESH_OF_68,
    SCENE_PX,
    main,
    read_300w_lp,
)
from helpers.asserts import assert_poses_close
from helpers.heads import random_poses

from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.virtual_camera import photo_camera

WIDTH, HEIGHT = 460, 380
CAMERA = photo_camera(WIDTH, HEIGHT)
FACE = deformable_face().xyz_head


def write_picture(path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    cv2.imwrite(str(path), picture)


def poses(count: int, rng: np.random.Generator) -> np.ndarray:
    return random_poses(count, CAMERA, rng, (0.8, 1.0), yaw_deg=40)


def test_300w_lp(tmp_path, rng):
    savemat = pytest.importorskip('scipy.io').savemat
    T = poses(3, rng)
    for i in range(3):
        uv = CAMERA.project(rotations.apply(T[i], FACE)).uv
        points = np.tile(uv.mean(0), (68, 1))
        points[list(MESH_OF_68)] = uv[list(MESH_OF_68.values())]
        path = tmp_path / 'AFW' / f'face_{i}.jpg'
        write_picture(path)
        angles = np.array([[0.1, -0.2, 0.3, 1, 2, 3, 4]]) + i
        savemat(path.with_suffix('.mat'), {'pt2d': points.T + 1, 'Pose_Para': angles})
    faces = list(read_300w_lp(tmp_path))
    assert faces[2].pitch_yaw_roll_deg == pytest.approx(np.rad2deg([2.1, 1.8, 2.3]))

    main(['300w-lp', str(tmp_path), '--out', str(tmp_path / 'shards')])
    batch = CropSource([str(tmp_path / 'shards')]).batch(np.arange(3))
    seen = rotations.apply(batch.T_crop_head.numpy(), batch.xyz_head.numpy())
    f, c = batch.f.numpy()[:, None, None], batch.c.numpy()[:, None]
    uv = f * seen[..., :2] / seen[..., 2:] + c
    known = batch.visible.numpy()
    assert known.sum(-1).tolist() == 3 * [len(MESH_OF_68)]
    assert np.linalg.norm((uv - batch.uv.numpy())[known], axis=-1).mean() < 1.0
    # The rotation between two crops' heads is that of the truth, up to the crops' own rotation.
    distance = np.linalg.norm(batch.T_crop_head[:, :3, 3], axis=-1)
    np.testing.assert_allclose(distance, np.linalg.norm(T[:, :3, 3], axis=-1), rtol=0.05)


def test_biwi(tmp_path, rng):
    T_rgb_head = poses(1, rng)[0]
    T_rgb_depth = np.eye(4)
    T_rgb_depth[:3, 3] = [0.025, -0.001, 0.002]
    T = np.linalg.inv(T_rgb_depth) @ T_rgb_head
    folder = tmp_path / '01'
    write_picture(folder / 'frame_00003_rgb.png')
    rows = [*T[:3, :3].tolist(), [], (1000 * T[:3, 3]).tolist()]
    text = '\n'.join(' '.join(map(str, row)) for row in rows)
    (folder / 'frame_00003_pose.txt').write_text(text)
    K = CAMERA.K.reshape(-1)
    values = [*K, 0, 0, 0, 0, *np.eye(3).reshape(-1), 25, -1, 2, WIDTH, HEIGHT]
    (folder / 'rgb.cal').write_text(' '.join(map(str, values)))
    main(['biwi', str(tmp_path), '--out', str(tmp_path / 'shards')])
    scenes = Scenes([tmp_path / 'shards'])
    assert_poses_close(scenes.poses(0)[0][0], T_rgb_head, 1e-5, 1e-6)
    f = np.diag(scenes.camera(0).K)[:2]
    np.testing.assert_allclose(f, (WIDTH + HEIGHT) * SCENE_PX / WIDTH, rtol=1e-2)


def test_wider(tmp_path, rng):
    T = poses(2, rng)
    uv = CAMERA.project(rotations.apply(T, FACE)).uv
    five = [np.stack([face[list(points)].mean(0) for points in _MESH_OF_5]) for face in uv]
    write_picture(tmp_path / 'images' / 'a.png')
    content = {
        'image_path': 'a.png',
        'bboxes': [[10, 20, 60, 80], [100, 100, 150, 160], [200, 20, 260, 90]],
        'landmarks': [five[0].tolist(), (-np.ones((5, 3))).tolist(), five[1].tolist()],
    }
    (tmp_path / 'a.json').write_text(json.dumps(content))
    (tmp_path / 'list.txt').write_text('a.json\n')
    arguments = ['--annotations', str(tmp_path / 'list.txt'), '--out', str(tmp_path / 'shards')]
    main(['wider', str(tmp_path / 'images'), *arguments])
    scenes = Scenes([tmp_path / 'shards'])
    picture, heads = scenes.picture(0)
    assert picture.shape == (SCENE_PX, SCENE_PX, 3)
    assert len(heads) == 2
    assert_poses_close(scenes.poses(0)[0], T, max_deg=1.0, max_mm=15)
    scale = SCENE_PX / WIDTH
    u, v = round(125 * scale), round(130 * scale)
    assert picture[v - 9 : v + 9, u - 9 : u + 9].max() == 0


@pytest.mark.parametrize('content', [None, b'nonsense'])
def test_damaged_files_are_named(content, tmp_path):
    if content is not None:
        write_picture(tmp_path / 'a.jpg')
        (tmp_path / 'a.mat').write_bytes(content)
    with pytest.raises(DataError, match=r'a\.mat' if content else str(tmp_path)):
        list(read_300w_lp(tmp_path))
