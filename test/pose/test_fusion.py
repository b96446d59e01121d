"""One pose from two networks' keypoints: where each counts, how uncertain both are."""

import pytest
import torch
from face_pose_ros.pose.refine import PoseOptions
from helpers.asserts import assert_poses_close
from helpers.cameras import make_camera
from helpers.scene import R_CAM_FRONTAL, observe

from face_pose_ros.geometry import se3, so3
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fusion import (
    HEAD_ONLY_DEG,
    MESH_ONLY_DEG,
    FittedReadings,
    fit_readings,
    fuse,
    share_of_head,
    turn_deg,
)
from face_pose_ros.results import HeadPoses, Keypoints, Readings

FACE, HEAD = deformable_face(), semantic_head()


def turned(*yaws_deg: float) -> torch.Tensor:
    """Heads 0.8 m ahead that look past the camera."""
    yaw = torch.tensor(yaws_deg, dtype=torch.float64).deg2rad()
    about_z = torch.stack([torch.zeros_like(yaw), torch.zeros_like(yaw), yaw], -1)
    t = torch.tensor([0.0, 0.0, 0.8], dtype=torch.float64).expand(len(yaw), 3)
    return se3.from_rt(R_CAM_FRONTAL @ so3.exp(about_z), t)


def estimates(count: int, generator: torch.Generator) -> HeadPoses:
    """Any poses with any covariances, of three shape coefficients."""

    def covariances(size: int) -> torch.Tensor:
        A = torch.randn(count, size, size, generator=generator).double()
        return 1e-4 * (A @ A.mT + torch.eye(size))

    shape_covariance, given_shape = covariances(3), covariances(6)
    pose_of_shape = 0.1 * torch.randn(count, 6, 3, generator=generator).double()
    noise = 0.05 * torch.randn(count, 3, generator=generator).double()
    T = turned(*[20.0] * count)
    T[:, :3, :3] = so3.exp(noise) @ T[:, :3, :3]
    return HeadPoses(
        T_cam_head=T,
        covariance=given_shape + pose_of_shape @ shape_covariance @ pose_of_shape.mT,
        covariance_given_shape=given_shape,
        pose_of_shape=pose_of_shape,
        shape=torch.randn(count, 3, generator=generator).double(),
        shape_covariance=shape_covariance,
        failed=torch.zeros(count, dtype=torch.bool),
    )


def assert_same(a: HeadPoses, b: HeadPoses, atol: float = 0.0) -> None:
    for name, value in vars(a).items():
        torch.testing.assert_close(value, vars(b)[name], rtol=0, atol=atol, msg=name)


def test_a_head_beside_the_axis_that_looks_at_the_camera_is_not_turned():
    T = turned(0.0, 40.0, -70.0)
    assert turn_deg(T).tolist() == pytest.approx([0, 40, 70])
    beside = torch.tensor([0.0, 0.6, 0.0], dtype=torch.float64)  # the whole scene about y
    assert turn_deg(se3.from_rt(so3.exp(beside), beside.new_zeros(3)) @ T).tolist() == (
        pytest.approx([0, 40, 70])
    )


def test_the_hourglass_takes_over_while_a_head_turns():
    turns = torch.tensor([0.0, MESH_ONLY_DEG, HEAD_ONLY_DEG, 180.0])
    assert share_of_head(turns).tolist() == [0, 0, 1, 1]
    between = share_of_head(torch.linspace(MESH_ONLY_DEG, HEAD_ONLY_DEG, 9))
    assert (between.diff() > 0).all()


def test_a_share_of_all_or_nothing_is_the_estimate_itself(generator):
    a, b = estimates(2, generator), estimates(2, generator)
    fused = fuse(a, b, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert_same(fused[torch.tensor([0])], a[torch.tensor([0])])
    assert_same(fused[torch.tensor([1])], b[torch.tensor([1])])


def test_the_same_estimate_twice_tells_nothing_new(generator):
    a = estimates(4, generator)
    assert_same(fuse(a, a, torch.full((4,), 0.3, dtype=torch.float64)), a, atol=1e-9)


def test_two_estimates_meet_where_their_information_says(generator):
    """Against the textbook formula for one vector of pose and shape."""
    a, b = estimates(1, generator), estimates(1, generator)
    fused = fuse(a, b, torch.tensor([0.25], dtype=torch.float64))

    def joint(poses: HeadPoses) -> torch.Tensor:
        cross = (poses.pose_of_shape @ poses.shape_covariance)[0]
        top = torch.cat([poses.covariance[0], cross], 1)
        return torch.cat([top, torch.cat([cross.T, poses.shape_covariance[0]], 1)], 0)

    information = 0.75 * joint(a).inverse() + 0.25 * joint(b).inverse()
    torch.testing.assert_close(joint(fused), information.inverse(), rtol=1e-6, atol=1e-12)
    R = a.T_cam_head[:, :3, :3]
    apart = torch.cat(
        [
            (b.T_cam_head - a.T_cam_head)[0, :3, 3],
            so3.log(b.T_cam_head[:, :3, :3] @ R.mT)[0],
            (b.shape - a.shape)[0],
        ]
    )
    step = information.inverse() @ (0.25 * joint(b).inverse() @ apart)
    torch.testing.assert_close(fused.shape[0], a.shape[0] + step[6:])
    torch.testing.assert_close(so3.log(fused.T_cam_head[:, :3, :3] @ R.mT)[0], step[3:6])
    # What the tracker takes apart again.
    again = fused.pose_of_shape @ fused.shape_covariance @ fused.pose_of_shape.mT
    torch.testing.assert_close(fused.covariance_given_shape + again, fused.covariance)


def seen(model, T, camera, presence, sigma_px=0.5) -> Keypoints:
    measured = observe(model.xyz_head, T, camera, sigma_px=sigma_px)
    return Keypoints(measured.uv, measured.cov_uv, torch.as_tensor(presence))


def fitted(mesh: Keypoints, head: Keypoints, camera) -> FittedReadings:
    return fit_readings(Readings(mesh, head), FACE, HEAD, camera, PoseOptions(), 6.0, 0.5)


def test_both_networks_agree_on_heads_that_they_see_well():
    half_way = 0.5 * (MESH_ONLY_DEG + HEAD_ONLY_DEG)
    camera, T = make_camera('plumb_bob_5'), turned(0.0, half_way, 80.0)
    ones = torch.ones(3)
    found = fitted(seen(FACE, T, camera, ones), seen(HEAD, T, camera, ones), camera)
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)
    assert found.head_share[[0, 2]].tolist() == [0, 1]
    assert found.head_share[1] == pytest.approx(0.5, abs=0.01)


def test_a_network_that_sees_no_face_does_not_count():
    camera, T = make_camera('plumb_bob_5'), turned(0.0, 80.0, 0.0)
    elsewhere = turned(30.0, 30.0, 30.0)
    mesh = seen(FACE, torch.cat([elsewhere[:1], T[1:]]), camera, [0.1, 0.9, 0.9])
    head = seen(HEAD, torch.cat([T[:1], elsewhere[1:]]), camera, [0.9, 0.1, 0.0])
    found = fitted(mesh, head, camera)
    assert found.head_share.tolist() == [1, 0, 0]
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)


@pytest.mark.parametrize('absent', ['mesh', 'head'])
def test_one_network_alone_is_enough(absent):
    camera, T = make_camera('equidistant'), turned(10.0, 50.0)
    presence = {'mesh': torch.ones(2), 'head': torch.ones(2)} | {absent: torch.zeros(2)}
    mesh = seen(FACE, T, camera, presence['mesh'])
    head = seen(HEAD, T, camera, presence['head'])
    found = fitted(mesh, head, camera)
    assert not found.poses.failed.any()
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)
    assert (found.head_share == float(absent == 'mesh')).all()


def test_a_fit_that_fails_leaves_the_face_to_the_other_network():
    camera, T = make_camera('plumb_bob_5'), turned(60.0)
    mesh = seen(FACE, T, camera, [1.0])
    unmeasured = torch.diag_embed(torch.full((1, 86, 2), torch.inf, dtype=torch.float64))
    head = seen(HEAD, T, camera, [1.0])
    found = fitted(mesh, Keypoints(head.uv, unmeasured, head.presence), camera)
    assert found.head_share.tolist() == [0]
    assert_poses_close(found.poses.T_cam_head, T, max_deg=0.05, max_mm=0.5)


def test_no_face_is_an_ordinary_answer():
    camera, none = make_camera('plumb_bob_5'), turned()
    assert (
        len(fitted(seen(FACE, none, camera, []), seen(HEAD, none, camera, []), camera).poses) == 0
    )
