# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Closed forms against their definitions, then the start against known poses."""

import pytest
import torch
from face_pose_lab.reference.weak_perspective import (
    ShapeBasis,
    WeakPerspectiveProblem,
    confidences,
    look_along,
    relax,
    spectral_norm_prox,
    stiefel_projection,
    weak_perspective_start,
)
from face_pose_lab.torch_geometry import se3, so3
from helpers.asserts import rotation_error_deg
from helpers.scene import R_CAM_FRONTAL

from face_pose_ros.pose.face_model import canonical_face


@pytest.fixture(scope='module')
def xyz_head():
    return torch.from_numpy(canonical_face().xyz_head)


def random(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def spectral_norm(A):
    return torch.linalg.matrix_norm(A, 2)


def nuclear_norm(A):
    return torch.linalg.matrix_norm(A, 'nuc')


def inner(A, B):
    return (A * B).sum((-1, -2))


def look_at_faces(xyz_head, distance_m, generator, count=20):
    """(count, 4, 4) poses within 60 deg of frontal and the exact rays to the points."""
    R = so3.exp(0.6 * random(generator, count, 3)) @ R_CAM_FRONTAL
    direction = torch.nn.functional.normalize(random(generator, count, 3), dim=-1)
    T = se3.from_rt(R, distance_m * direction)
    return T, torch.nn.functional.normalize(se3.apply(T, xyz_head), dim=-1)


def test_prox_of_the_spectral_norm_meets_its_definition(generator):
    A = random(generator, 300, 2, 3)
    A[:100, 1] = A[:100, 0] + 1e-3 * random(generator, 100, 3)  # nearly of rank one
    threshold = 3 * torch.rand(300, generator=generator, dtype=torch.float64)
    X = spectral_norm_prox(A, threshold)

    # (A - X) / threshold must be a subgradient of the norm at X.
    slack = A - X
    assert (nuclear_norm(slack) <= threshold + 1e-12).all()
    torch.testing.assert_close(inner(slack, X), threshold * spectral_norm(X))
    shrunk_to_zero = spectral_norm(X) < 1e-12
    assert shrunk_to_zero.any()
    assert not shrunk_to_zero.all()

    def value(Y):
        return threshold * spectral_norm(Y) + 0.5 * inner(Y - A, Y - A)

    for size in (1e-4, 1e-2, 1.0):
        assert (value(X) <= value(X + size * random(generator, 300, 2, 3))).all()


@pytest.mark.parametrize('difference', [0, 1e-12, 1e-7, 1e-3])
def test_prox_of_nearly_equal_singular_values(difference, generator):
    R2 = so3.exp(random(generator, 20, 3))[:, :2]
    A = torch.tensor([[3 + difference], [3]], dtype=torch.float64) * R2
    X = spectral_norm_prox(A, torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(X, (2.5 + 0.5 * difference) * R2)


def test_stiefel_projection_is_the_polar_factor(generator):
    A = random(generator, 200, 2, 3)
    U, _, Vh = torch.linalg.svd(A, full_matrices=False)
    torch.testing.assert_close(stiefel_projection(A), U @ Vh)


def test_level_cameras_point_in_any_direction(generator):
    axes = torch.eye(3, dtype=torch.float64)
    directions = torch.cat([axes, -axes, random(generator, 50, 3)])
    R = look_along(directions)
    torch.testing.assert_close(R @ R.mT, axes.expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(56).double())
    torch.testing.assert_close(R[..., 2], torch.nn.functional.normalize(directions, dim=-1))


def test_relaxation_is_the_minimum_of_the_convex_problem(xyz_head, generator):
    basis = ShapeBasis.normalise(xyz_head, xyz_head.new_zeros(0, *xyz_head.shape))
    W = basis.B0 @ random(generator, 30, 3, 2) + 0.1 * random(generator, 30, len(xyz_head), 2)
    WDS, SDS = W.mT @ basis.B0, (basis.B0.mT @ basis.B0).expand(30, -1, -1)
    M = relax(WDS, SDS)
    subgradient = WDS - M @ SDS
    assert (nuclear_norm(subgradient) <= 1 + 1e-3).all()
    torch.testing.assert_close(inner(subgradient, M), spectral_norm(M), rtol=1e-3, atol=0)


def test_start_approaches_the_pose_as_the_face_moves_away(xyz_head, generator):
    errors = []
    for distance_m in (1.0, 10.0, 1000.0):
        T, rays = look_at_faces(xyz_head, distance_m, generator.manual_seed(0))
        start = weak_perspective_start(xyz_head, rays, torch.ones_like(rays[..., 0]))
        T_start = se3.from_rt(*start)[:, 0]
        relative = (T_start - T)[:, :3, 3].norm(dim=-1) / distance_m
        errors.append((rotation_error_deg(T_start, T).max(), relative.max()))
    (near_deg, near), (middle_deg, middle), (far_deg, far) = errors
    assert near_deg < 3
    assert near < 0.02
    assert middle_deg < 0.15 * near_deg
    assert middle < 0.15 * near
    assert far_deg < 2e-3 * near_deg
    assert far < 2e-3 * near


def test_start_turns_with_the_camera(xyz_head, generator):
    """Any direction will do: the image plane is the face's own, not the camera's."""
    _, rays = look_at_faces(xyz_head, 0.7, generator)
    weight = torch.rand(rays.shape[:2], generator=generator, dtype=torch.float64)
    Q = so3.exp(3 * random(generator, len(rays), 3))
    start = weak_perspective_start(xyz_head, rays, weight)
    turned = weak_perspective_start(xyz_head, rays @ Q.mT, weight)
    torch.testing.assert_close(turned.R_cam_head, Q[:, None] @ start.R_cam_head)
    t_turned = (Q[:, None] @ start.t_cam_head[..., None]).squeeze(-1)
    torch.testing.assert_close(turned.t_cam_head, t_turned)


def test_start_is_a_rotation_in_front_of_the_camera(xyz_head, generator):
    rays = torch.nn.functional.normalize(random(generator, 100, len(xyz_head), 3), dim=-1)
    weight = torch.ones_like(rays[..., 0])
    weight[:50, 5:] = 0
    start = weak_perspective_start(xyz_head, rays, weight)
    R, t = start.R_cam_head[:, 0], start.t_cam_head[:, 0]
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double().expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(100).double())
    centre_cam = ((R @ xyz_head.mT) * (weight / weight.sum(-1, keepdim=True))[:, None]).sum(-1) + t
    assert ((weight[..., None] * rays).sum(-2) * centre_cam).sum(-1).min() > 0


def test_a_keypoint_without_weight_is_absent(xyz_head, generator):
    _, rays = look_at_faces(xyz_head, 0.7, generator)
    weight = torch.rand(rays.shape[:2], generator=generator, dtype=torch.float64)
    weight[:, ::3] = 0
    elsewhere = rays.clone()
    elsewhere[:, ::3] = rays[:, :1]
    start = weak_perspective_start(xyz_head, rays, weight)
    other = weak_perspective_start(xyz_head, elsewhere, weight)
    assert torch.equal(start.R_cam_head, other.R_cam_head)
    assert torch.equal(start.t_cam_head, other.t_cam_head)


def test_start_without_any_weight_is_finite(xyz_head, generator):
    _, rays = look_at_faces(xyz_head, 0.7, generator, count=2)
    R, t = weak_perspective_start(xyz_head, rays, torch.zeros_like(rays[..., 0]))
    assert R.isfinite().all()
    assert t.isfinite().all()


def test_alternation_never_raises_the_cost(xyz_head, generator):
    xyz_head = xyz_head[::6]
    modes = 0.003 * random(generator, 4, *xyz_head.shape)
    basis = ShapeBasis.normalise(xyz_head, modes)
    _, rays = look_at_faces(xyz_head, 0.4, generator)
    rays = torch.nn.functional.normalize(rays + 0.02 * random(generator, *rays.shape), dim=-1)
    weight = confidences(torch.rand(rays.shape[:2], generator=generator, dtype=torch.float64))
    problem = WeakPerspectiveProblem.build(basis, rays, weight, shape_weight=0.3)
    costs = torch.stack([problem.alternate(0, rounds).cost for rounds in range(1, 12)])
    assert (costs.diff(dim=0) <= 1e-12 * costs[:-1]).all()
    assert (costs[-1] < costs[0]).all()
