# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One pose from two networks' keypoints: where each counts, how uncertain both are."""

from dataclasses import fields

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.cameras import make_camera
from helpers.heads import frontal, observe

from face_pose_ros.geometry import rotations
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fusion import (
    HEAD_ONLY_DEG,
    MESH_ONLY_DEG,
    FittedReadings,
    fit_readings,
    fuse,
    share_by_depth,
    share_of_head,
    turn_deg,
)
from face_pose_ros.results import HeadPoses, Keypoints, Readings

FACE, HEAD = deformable_face(), semantic_head()


def turned(*yaws_deg):
    """Heads 0.8 m ahead that look past the camera."""
    yaw = np.deg2rad(np.array(yaws_deg))
    about_z = np.stack([0 * yaw, 0 * yaw, yaw], -1)
    R = frontal((0, 0, 0.8))[:3, :3] @ rotations.exp(about_z)
    return rotations.from_rt(R, np.tile([0, 0, 0.8], (len(yaw), 1)))


def estimates(count, rng) -> HeadPoses:
    """Any poses with any covariances, of three shape coefficients."""

    def covariances(size):
        A = rng.standard_normal((count, size, size))
        return 1e-4 * (A @ A.swapaxes(-1, -2) + np.eye(size))

    shape_covariance, given_shape = covariances(3), covariances(6)
    G = 0.1 * rng.standard_normal((count, 6, 3))
    T = turned(*[20.0] * count)
    T[:, :3, :3] = rotations.exp(0.05 * rng.standard_normal((count, 3))) @ T[:, :3, :3]
    return HeadPoses(
        T_cam_head=T,
        covariance=given_shape + G @ shape_covariance @ G.swapaxes(-1, -2),
        covariance_given_shape=given_shape,
        pose_of_shape=G,
        shape=rng.standard_normal((count, 3)),
        shape_covariance=shape_covariance,
        failed=np.zeros(count, dtype=bool),
        depth=np.zeros((count, 4)),
    )


def test_a_pose_that_agrees_with_the_depth_image_alone_counts(rng):
    a, b = estimates(4, rng), estimates(4, rng)
    a.depth[:, 2], b.depth[:, 2] = [0, 20, 0, 31], [0, 0, 17, 24]
    share = share_by_depth(np.array([0.3, 0.6, 0.2, 0.9]), a, b)
    np.testing.assert_array_equal(share, [0.3, 0, 1, 0.9])


def assert_same(a: HeadPoses, b: HeadPoses, atol=0.0):
    for field in fields(a):
        value, expected = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_allclose(value, expected, rtol=0, atol=atol, err_msg=field.name)


def test_a_head_beside_the_axis_that_looks_at_the_camera_is_not_turned():
    T = turned(0.0, 40.0, -70.0)
    assert turn_deg(T).tolist() == pytest.approx([0, 40, 70])
    beside = rotations.from_rt(rotations.exp([0, 0.6, 0]), [0, 0, 0])  # the whole scene about y
    assert turn_deg(beside @ T).tolist() == pytest.approx([0, 40, 70])


def test_the_hourglass_takes_over_while_a_head_turns():
    turns = np.array([0.0, MESH_ONLY_DEG, HEAD_ONLY_DEG, 180.0])
    assert share_of_head(turns).tolist() == [0, 0, 1, 1]
    between = share_of_head(np.linspace(MESH_ONLY_DEG, HEAD_ONLY_DEG, 9))
    assert (np.diff(between) > 0).all()


def test_a_share_of_all_or_nothing_is_the_estimate_itself(rng):
    a, b = estimates(2, rng), estimates(2, rng)
    fused = fuse(a, b, np.array([0.0, 1.0]))
    assert_same(fused[np.array([0])], a[np.array([0])])
    assert_same(fused[np.array([1])], b[np.array([1])])


def test_the_same_estimate_twice_tells_nothing_new(rng):
    a = estimates(4, rng)
    assert_same(fuse(a, a, np.full(4, 0.3)), a, atol=1e-9)


def test_two_estimates_meet_where_their_information_says(rng):
    """Against the textbook formula for one vector of pose and shape."""
    a, b = estimates(1, rng), estimates(1, rng)
    fused = fuse(a, b, np.array([0.25]))

    def joint(poses: HeadPoses):
        cross = (poses.pose_of_shape @ poses.shape_covariance)[0]
        return np.block([[poses.covariance[0], cross], [cross.T, poses.shape_covariance[0]]])

    weighted = 0.25 * np.linalg.inv(joint(b))
    P = np.linalg.inv(0.75 * np.linalg.inv(joint(a)) + weighted)
    np.testing.assert_allclose(joint(fused), P, rtol=1e-6, atol=1e-12)
    delta = rotations.difference(a.T_cam_head[0], b.T_cam_head[0])
    step = P @ weighted @ np.concatenate([delta, (b.shape - a.shape)[0]])
    np.testing.assert_allclose(fused.shape[0], a.shape[0] + step[6:])
    moved = rotations.difference(a.T_cam_head[0], fused.T_cam_head[0])
    np.testing.assert_allclose(moved, step[:6], atol=1e-12)
    # What the tracker takes apart again.
    G = fused.pose_of_shape
    again = fused.covariance_given_shape + G @ fused.shape_covariance @ G.swapaxes(-1, -2)
    np.testing.assert_allclose(again, fused.covariance, atol=1e-15)


def seen(model, T, camera, presence, sigma_px=0.5) -> Keypoints:
    measured = observe(model.xyz_head, T, camera, sigma_px=sigma_px)
    return Keypoints(measured.uv, measured.cov_uv, np.array(presence, dtype=float))


def fitted(mesh: Keypoints, head: Keypoints, camera) -> FittedReadings:
    return fit_readings(Readings(mesh, head), FACE, HEAD, camera, PoseOptions(), 6.0, 0.5)


def test_both_networks_agree_on_heads_that_they_see_well():
    half_way = 0.5 * (MESH_ONLY_DEG + HEAD_ONLY_DEG)
    camera, T = make_camera('plumb_bob_5'), turned(0.0, half_way, 80.0)
    ones = np.ones(3)
    found = fitted(seen(FACE, T, camera, ones), seen(HEAD, T, camera, ones), camera)
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)
    assert found.head_share[[0, 2]].tolist() == [0, 1]
    assert found.head_share[1] == pytest.approx(0.5, abs=0.01)


def test_a_network_that_sees_no_face_does_not_count():
    camera, T = make_camera('plumb_bob_5'), turned(0.0, 80.0, 0.0)
    elsewhere = turned(30.0, 30.0, 30.0)
    mesh = seen(FACE, np.concatenate([elsewhere[:1], T[1:]]), camera, [0.1, 0.9, 0.9])
    head = seen(HEAD, np.concatenate([T[:1], elsewhere[1:]]), camera, [0.9, 0.1, 0.0])
    found = fitted(mesh, head, camera)
    assert found.head_share.tolist() == [1, 0, 0]
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)


@pytest.mark.parametrize('absent', ['mesh', 'head'])
def test_one_network_alone_is_enough(absent):
    camera, T = make_camera('equidistant'), turned(10.0, 50.0)
    presence = {'mesh': np.ones(2), 'head': np.ones(2)} | {absent: np.zeros(2)}
    mesh = seen(FACE, T, camera, presence['mesh'])
    head = seen(HEAD, T, camera, presence['head'])
    found = fitted(mesh, head, camera)
    assert not found.poses.failed.any()
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)
    assert (found.head_share == float(absent == 'mesh')).all()


def test_a_fit_that_fails_leaves_the_face_to_the_other_network():
    camera, T = make_camera('plumb_bob_5'), turned(60.0)
    mesh = seen(FACE, T, camera, [1.0])
    unmeasured = np.full((1, 86, 2, 2), np.inf)
    head = seen(HEAD, T, camera, [1.0])
    found = fitted(mesh, Keypoints(head.uv, unmeasured, head.presence), camera)
    assert found.head_share.tolist() == [0]
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)


def test_no_face_is_an_ordinary_answer():
    camera, none = make_camera('plumb_bob_5'), turned()
    assert (
        len(fitted(seen(FACE, none, camera, []), seen(HEAD, none, camera, []), camera).poses) == 0
    )
