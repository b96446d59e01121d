# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Network output for crops, transformed to the image and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from face_pose_lab.keypoint_net.label_photographs import Teachers, placed_at_box
from face_pose_lab.keypoint_net.predict import to_crop
from face_pose_lab.keypoint_net.score_rendered import MeasuredCrops, fit
from face_pose_lab.keypoint_net.self_label import Student
from torch import Tensor

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.network_output import (
    INPUT_PX,
    KEYPOINTS,
    MARGIN,
    Calibration,
    read_keypoints,
)
from face_pose_ros.keypoints.predictor import crops_around_heads
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.results import Keypoints
from face_pose_ros.samples import load_portraits
from face_pose_ros.virtual_camera import photo_camera

CAMERA = Camera.from_K([610, 0, 322, 0, 605, 236, 0, 0, 1], 640, 480, [-0.25, 0.02, 1e-3, -2e-3])
# A head 0.8 m away, turned by 20 deg, to the left of the camera's axis.
T_CAM_HEAD = np.array(
    [[-0.342, 0.940, 0, -0.11], [0, 0, -1, 0.06], [-0.940, -0.342, 0, 0.8], [0, 0, 0, 1]]
)
_UV = slice(0, 2)


def heads_keypoints() -> np.ndarray:
    xyz = semantic_head().xyz_head @ T_CAM_HEAD[:3, :3].T + T_CAM_HEAD[:3, 3]
    return CAMERA.project(xyz).uv[None]


def crops_of(uv: np.ndarray) -> Crops:
    """Crops around keypoints (N, K, 2) px."""
    return crops_around_heads(uv[:, semantic.IS_FACE], CAMERA)


def keypoints_of(numbers: Tensor, crops: Crops, calibration: Calibration) -> Keypoints:
    return read_keypoints(numbers.numpy(), crops, CAMERA, calibration)


def numbers_of(uv_crop: np.ndarray) -> Tensor:
    """(N, 437) that say keypoints (N, K, 2) px of the crop, sure that a head is there."""
    numbers = torch.zeros(len(uv_crop), 5 * KEYPOINTS + 7)
    points = numbers[:, :-7].unflatten(1, (KEYPOINTS, 5))
    points[..., _UV] = torch.from_numpy(
        (uv_crop - 0.5 * (INPUT_PX - 1)) / (0.1 * INPUT_PX)
    ).float()
    points[..., 4] = 0.5
    numbers[:, -7] = 8.0
    return numbers


def test_keypoints_come_back_to_the_pixels_that_the_crop_shows() -> None:
    uv = heads_keypoints()
    crops = crops_of(uv)
    uv_crop = to_crop(CAMERA.unproject(uv).rays, crops)
    face = uv_crop[0, semantic.IS_FACE]
    assert np.ptp(face, axis=0).max() == pytest.approx(INPUT_PX / MARGIN, rel=1e-3)
    found = keypoints_of(numbers_of(uv_crop), crops, Calibration())
    np.testing.assert_allclose(found.uv, uv, atol=1e-3)
    assert found.presence[0] > 0.99


def test_covariances_are_those_of_the_image_and_calibrated() -> None:
    crops = crops_of(heads_keypoints())
    middle = np.full((1, KEYPOINTS, 2), 0.5 * (INPUT_PX - 1))
    calibration = Calibration(cov_gain=1.5, cov_floor_px2=0.4)
    found = keypoints_of(numbers_of(middle), crops, calibration)
    steps = np.array([[[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]]]) + middle[:, :4]
    ends = crops.to_image(steps, CAMERA)[0][0]
    J = np.column_stack([ends[0] - ends[1], ends[2] - ends[3]])
    L = 2 * np.array([[1.0, 0.0], [0.5, 1.0]])  # px of the crop
    expected = J @ (1.5 * L @ L.T + 0.4 * np.eye(2)) @ J.T
    np.testing.assert_allclose(found.cov_uv[0, 7], expected, rtol=1e-4)


def test_a_keypoint_that_the_camera_does_not_see_is_not_measured() -> None:
    crops = crops_of(heads_keypoints())
    uv_crop = np.full((1, KEYPOINTS, 2), 60.0)
    uv_crop[0, 3] = (9000.0, 60.0)
    found = keypoints_of(numbers_of(uv_crop), crops, Calibration())
    assert np.isinf(np.diagonal(found.cov_uv[0, 3])).all()
    assert np.isfinite(found.cov_uv[0, 4]).all()


def test_poses_of_exact_crops_are_the_truth() -> None:
    uv = heads_keypoints()
    crops = crops_of(uv)
    uv_crop = to_crop(CAMERA.unproject(uv).rays, crops)
    poses = fit(
        keypoints_of(numbers_of(uv_crop), crops, Calibration()),
        CAMERA,
        Calibration(),
        semantic_head(),
    )
    np.testing.assert_allclose(poses.T_cam_head[0], T_CAM_HEAD, atol=2e-3)
    heads = MeasuredCrops(numbers_of(uv_crop), crops, uv_crop, T_CAM_HEAD[None])
    errors, found = heads[np.array([0, 0])].pose_errors(Calibration(), semantic_head())
    assert found.tolist() == [True, True]
    assert errors.rotation_deg.max() < 0.2


@pytest.fixture(scope='module')
def labelled() -> dict[str, np.ndarray]:
    """The teachers' labels of a sample image."""
    image = load_portraits()['astronaut']
    teachers = Teachers()
    box = teachers.detector.detect(image, photo_camera(512, 512)).boxes_xyxy[0].astype(np.float64)
    label = teachers.label(placed_at_box('astronaut', image, box))
    assert label is not None
    assert label[0].shape == (160, 160, 3)
    return label[1]


def test_both_measurements_of_a_portrait_agree(labelled: dict[str, np.ndarray]) -> None:
    assert labelled['mesh_presence'] > 0.9
    assert labelled['mesh_apart'] < 0.035
    face = labelled['mesh_uv'][semantic.IS_FACE]
    assert np.ptp(face, axis=0).max() == pytest.approx(160 / 1.9, rel=0.05)
    off = labelled['mesh_direct_uv'][semantic.IS_FACE] - face
    assert np.linalg.norm(off, axis=1).mean() < 3
    # Keypoints of the fitted pose and model, in the crop's own camera.
    T, K = labelled['mesh_T'].astype(float), labelled['K_crop'].astype(float)
    nose = T[:3, 3] / T[2, 3]
    sellion = (K @ nose)[:2]
    root = labelled['mesh_uv'][semantic.NAMES.index('nasal_root')]
    assert np.linalg.norm(sellion - root) < 6


def test_a_network_without_knowledge_labels_nothing() -> None:
    def network(pictures: Tensor) -> Tensor:
        numbers = torch.zeros(len(pictures), 5 * KEYPOINTS + 7)
        numbers[:, -7] = -4.0
        return numbers

    image = load_portraits()['astronaut']
    placed = placed_at_box('a', image, np.array([180.0, 80.0, 280.0, 200.0]))
    assert Student(network, Calibration()).label(placed) is None
