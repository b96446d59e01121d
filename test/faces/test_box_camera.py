# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses in the camera of a box: exact by a rotation."""

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.cameras import DISTORTIONS, make_camera
from helpers.heads import random_poses

from face_pose_ros.faces.box_camera import box_rotation, pixels_per_radian
from face_pose_ros.geometry import rotations


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_the_rotation_turns_the_axis_into_the_ray_by_the_smallest_angle(rng):
    rays = unit(rng.standard_normal((1000, 3)))
    R = box_rotation(rays)
    assert np.abs(R[..., 2] - rays).max() < 1e-12
    assert np.abs(R.swapaxes(1, 2) @ R - np.eye(3)).max() < 1e-8
    angle = np.linalg.norm(rotations.log(R), axis=-1)
    assert np.abs(angle - np.arccos(rays[:, 2])).max() < 1e-6


def test_straight_back_is_half_a_turn():
    np.testing.assert_array_equal(box_rotation(np.array([0.0, 0, -1])), np.diag([1.0, -1, -1]))


@pytest.mark.parametrize('lens', DISTORTIONS)
def test_there_and_back_is_the_same_pose_with_any_lens(lens, rng):
    camera = make_camera(lens)
    T = random_poses(200, camera, rng)
    rays = camera.unproject(camera.project(T[:, :3, 3]).uv).rays
    T_cam_box = rotations.from_rt(box_rotation(rays), np.zeros((200, 3)))
    T_box = rotations.inverse(T_cam_box) @ T
    # The sellion lies on the axis of its own box camera, as far away as before.
    assert np.abs(T_box[:, :2, 3]).max() < 1e-6
    assert_poses_close(T_cam_box @ T_box, T, max_deg=1e-5, max_mm=1e-6)


@pytest.mark.parametrize('lens', [lens for lens in DISTORTIONS if 'tilt' not in lens])
def test_near_the_ray_both_images_differ_by_a_stretch_and_no_rotation(lens):
    camera = make_camera(lens)
    uv = np.array([[120.0, 650.0], [800.0, 200.0], [497.3, 338.1]])
    rays = camera.unproject(uv).rays
    J = camera.project(rays, jacobian=True).J_uv_xyz
    A = (J @ box_rotation(rays)[..., :2]) / np.diag(camera.K)[:2, None]
    turn = np.rad2deg(np.arctan2(A[:, 1, 0] - A[:, 0, 1], A[:, 0, 0] + A[:, 1, 1]))
    assert np.abs(turn).max() < (1e-6 if lens == 'none' else 0.6)
    step = 1e-5
    beside = unit(rays + step * box_rotation(rays)[..., 0])
    moved = camera.project(beside).uv - camera.project(rays).uv
    ratio = np.linalg.norm(moved, axis=-1) / step / pixels_per_radian(camera, rays)
    assert ((ratio > 0.75) & (ratio < 1.34)).all()


@pytest.mark.parametrize(('angle_deg', 'error_deg'), [(5, 2.5), (15, 7.4), (30, 13.9)])
def test_the_shear_of_img2pose_turns_half_as_far_as_the_ray(angle_deg, error_deg):
    angle, f, cx, cy = np.deg2rad(angle_deg), 900.0, 497.3, 338.1
    K_image = np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])
    K_box = K_image + np.array([[0, 0, f * np.tan(angle)], [0, 0, 0], [0, 0, 0]])
    shear = np.linalg.solve(K_image, K_box)
    U, _, Vt = np.linalg.svd(shear)
    exact = box_rotation(np.array([np.sin(angle), 0, np.cos(angle)]))
    error = np.rad2deg(rotations.angle_between(exact, U @ Vt))
    assert error == pytest.approx(np.rad2deg(angle - np.arctan(np.tan(angle) / 2)), abs=1e-6)
    assert error == pytest.approx(error_deg, abs=0.1)
    # A point on the axis lies on the same ray, further away by the cosine.
    t = shear @ [0, 0, 1.5]
    np.testing.assert_allclose(t / np.linalg.norm(t), exact[:, 2], atol=1e-9)
