# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of heads show a face where the truth says."""

import numpy as np
import pytest
import torch
from face_pose_lab.synthetic.body import HairStyle
from face_pose_lab.synthetic.ict_facekit import FACE_VERTICES
from face_pose_lab.synthetic.sampling import (
    R_FACING,
    HeadRange,
    face_bounds,
    random_head,
)
from face_pose_lab.synthetic.scene import Head, HeadRenderer
from face_pose_lab.synthetic.shading import Light
from face_pose_lab.torch_geometry.camera import Camera
from helpers.facekit import load_facekit

from face_pose_ros.engines.networks import load_networks
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.network_output import packaged_calibration
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.results import Faces

# Multi-PIE landmark and Face Mesh keypoint of the same place: corners of eyes and mouth.
PAIRS = ((36, 33), (39, 133), (42, 362), (45, 263), (48, 61), (54, 291))
CAMERA = Camera.from_K([420, 0, 171, 0, 425, 146, 0, 0, 1], 360, 280, (-0.2, 0.05, 0.001, 0.002))
SHORT = HairStyle(0.01, 0.0, 0.0)
LIGHT = Light(torch.full((9, 3), 0.2), torch.tensor([0.0, -0.8, -0.6]), torch.ones(3))


@pytest.fixture(scope='module')
def renderer():
    return HeadRenderer(load_facekit())


def facing(distance=0.6, camera=CAMERA):
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R_FACING, (0.01, -0.02, distance)
    return Head(np.zeros(100), np.zeros(57), T, camera)


def test_a_picture_depends_on_its_seed_alone(renderer):
    head = facing()
    first, again, other = (renderer.render(head, np.random.default_rng(s)) for s in (5, 5, 6))
    assert first.shape == (280, 360, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


def test_a_head_behind_the_camera_is_not_in_the_picture(renderer):
    picture = renderer.render(facing(-0.6), np.random.default_rng(0))
    assert picture.shape == (280, 360, 3)
    middle = picture[90:190, 130:230].astype(float)
    assert np.abs(np.diff(middle, axis=0)).mean() < 12  # background is smooth, but for its noise


def test_a_head_at_the_border_is_cut_off_there(renderer):
    """The same head in a larger image, seen through a window that cuts its face."""
    window = CAMERA.crop(175, 120, 150, 140)
    xyz_cam = renderer._place(facing(), SHORT)
    appearance = renderer._people.person(np.random.default_rng(1))
    whole, part = (
        renderer._layer(
            xyz_cam, SHORT, appearance, LIGHT, camera, (0, 0, camera.width, camera.height)
        )[0]
        for camera in (CAMERA, window)
    )
    np.testing.assert_allclose(part, whole[120:260, 175:325], atol=1e-3)
    assert 0.2 < whole[..., 3].mean() < 0.8


def test_the_silhouette_is_that_of_the_vertices(renderer):
    """The tip of the nose ends a profile's row of covered pixels."""
    T = np.eye(4)
    T[:3, :3] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # looks to the picture's right
    T[:3, 3] = (0.05, 0.0, 0.5)
    xyz_cam = renderer._place(Head(np.zeros(100), np.zeros(57), T, CAMERA), SHORT)
    appearance = renderer._people.person(np.random.default_rng(0))
    bounds = (0, 0, CAMERA.width, CAMERA.height)
    layer, _ = renderer._layer(xyz_cam, SHORT, appearance, LIGHT, CAMERA, bounds)
    rows = slice(CAMERA.height // 2 - 60, CAMERA.height // 2 + 80)
    # Everything between pixel 200 and the tip is head: the covered width says where it ends.
    end = layer[rows, 200:, 3].sum(axis=1).max() + 200 - 0.5
    face = xyz_cam[:FACE_VERTICES].double()
    assert end == pytest.approx(float(CAMERA.project(face).uv[:, 0].max()), abs=0.6)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_the_keypoint_network_finds_the_features_where_the_truth_has_them(renderer, seed):
    facekit = renderer.facekit
    rng = np.random.default_rng(seed)
    head = random_head(facekit, HeadRange((0.4, 0.7), 25.0, 15.0, 20.0, 640, 480), rng)
    image = renderer.render(head, rng)
    xyz_head = facekit.vertices(head.identity[None], head.expression[None])[0]
    faces = Faces.of_boxes(face_bounds(xyz_head[:FACE_VERTICES], head))
    camera, network = head.camera.runtime(), load_networks('cpu').keypoints
    predictor = KeypointPredictor(network, packaged_calibration(), 2)
    keypoints = predictor.predict(image, faces, camera)
    assert keypoints.presence[0] > 0.9

    T = head.T_cam_head
    landmarks = xyz_head[facekit.landmark68_vertices] @ T[:3, :3].T + T[:3, 3]
    uv = camera.project(landmarks).uv
    px_per_mm = np.linalg.norm(uv[36:42].mean(0) - uv[42:48].mean(0)) / 63
    ours, theirs = (list(i) for i in zip(*PAIRS, strict=True))
    rows = [semantic.FACE_MESH_INDEX.tolist().index(index) for index in theirs]
    error_mm = np.linalg.norm(keypoints.uv[0, rows] - uv[ours], axis=-1) / px_per_mm
    assert error_mm.mean() < 4
    assert error_mm.max() < 8


def test_a_folder_without_panoramas_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no \.hdr file'):
        HeadRenderer(load_facekit(), tmp_path)
