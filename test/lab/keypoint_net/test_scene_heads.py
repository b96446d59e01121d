# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads cut out of scenes keep exact labels, through the scene's lens."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('torch', reason='needs make test, or pip install torch')

from face_pose_lab.keypoint_net.scene_heads import heads_of

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import semantic_head

K = np.array([[310.0, 0, 171], [0, 305, 118], [0, 0, 1]])
DIST = np.array([-0.2, 0.05, 0.001, -0.0007, 0.0])
MARKED = 17
xyz_head = semantic_head().xyz_head


def scene(size_px=90.0, visible=0.8):
    """A shard of two images; the second shows one head, of which one keypoint is marked."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('zyx', [20, 160, -85], degrees=True).as_matrix()
    T[:3, 3] = 0.22, -0.11, 0.9
    uv = Camera.from_K(K, 340, 240, tuple(DIST)).project(xyz_head @ T[:3, :3].T + T[:3, 3]).uv
    rows, columns = np.mgrid[:240, :340]
    away = np.hypot(columns - uv[MARKED, 0], rows - uv[MARKED, 1])
    images = np.zeros((2, 240, 340, 3), np.uint8)
    images[1] = (255 * np.exp(-0.5 * (away / 2) ** 2))[..., None]
    labels = {
        'K': np.stack([2 * K, K]),
        'dist': np.stack([np.zeros(5), DIST]),
        'image_index': np.array([1]),
        'T_cam_head': T[None],
        'uv': uv[None],
        'xyz_head': xyz_head[None],
        'head_size_px': np.array([size_px]),
        'visible_fraction': np.array([visible]),
    }
    return SimpleNamespace(pictures=images, labels=labels)


def test_the_picture_shows_the_keypoint_where_its_label_is():
    ((picture, labels),) = heads_of(scene())
    grey = picture[..., 0].astype(float)
    rows, columns = np.mgrid[:160, :160]
    seen = np.array([(columns * grey).sum(), (rows * grey).sum()]) / grey.sum()
    np.testing.assert_allclose(labels['uv'][MARKED], seen, atol=0.1)


def test_pose_and_camera_of_the_picture_explain_its_keypoints():
    ((_, labels),) = heads_of(scene())
    T, K_crop = labels['T_crop_head'], labels['K_crop']
    xyz = (xyz_head @ T[:3, :3].T + T[:3, 3]) @ K_crop.T
    np.testing.assert_allclose(labels['uv'], xyz[:, :2] / xyz[:, 2:], atol=0.02)


@pytest.mark.parametrize(('size_px', 'visible'), [(40.0, 0.8), (90.0, 0.2)])
def test_small_and_hidden_heads_are_left_out(size_px, visible):
    assert list(heads_of(scene(size_px, visible))) == []
