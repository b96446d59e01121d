# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The ladder: Procrustes, stationary point, recovery, invariance, failures."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from face_pose_lab.reference.pavlakos import (
    PavlakosOptions,
    alternate_full_perspective,
    fit_pavlakos,
    procrustes,
)
from face_pose_lab.reference.weak_perspective import (
    ShapeBasis,
    WeakPerspectiveProblem,
    confidences,
)
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.torch_types import Keypoints
from helpers.asserts import assert_poses_close, rotation_error_deg
from helpers.cameras import K, make_torch_camera
from helpers.scene import R_CAM_FRONTAL, isotropic, observe, points, random_poses, wavy_face

MODES = 3
QUICK = PavlakosOptions(max_iterations=20)


@pytest.fixture(scope='module')
def model():
    return wavy_face(MODES).every(6)


def random_shape(count, generator):
    c = torch.randn(count, 1 + MODES, generator=generator, dtype=torch.float64)
    c[:, 0] = 0  # everybody of mean size
    return c


def test_procrustes_is_the_rotation_of_the_svd(generator):
    M = torch.randn(300, 3, 3, generator=generator, dtype=torch.float64)
    M[:50, 2] = 0  # points of one plane
    assert (torch.linalg.det(M[50:]) < 0).any()
    R = procrustes(M)
    U, _, Vh = torch.linalg.svd(M)
    U[..., 2] *= torch.linalg.det(U @ Vh)[:, None]
    torch.testing.assert_close(R, U @ Vh, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(300).double())


def test_full_perspective_recovers_pose_and_shape(model, generator):
    camera = make_torch_camera('plumb_bob_5')
    T = random_poses(5, camera, generator, distance_m=(0.2, 0.25), yaw_deg=45)
    c = random_shape(5, generator)
    # The nearer the face, the fewer rounds; half a metre takes five times as many.
    options = PavlakosOptions(shape_weight=1e-7, tolerance=1e-9, max_iterations=3000)
    result = fit_pavlakos(observe(points(model, c), T, camera), model, camera, options)
    assert not result.failed.any()
    assert_poses_close(result.T_cam_head, T, max_deg=0.005, max_mm=0.02)
    torch.testing.assert_close(result.shape, c, rtol=0, atol=2e-3)


def test_the_limit_is_a_stationary_point_of_the_objective(model, generator):
    """With unequal confidences: every step must use them, the shape's as well."""
    camera = make_torch_camera('plumb_bob_5')
    T = random_poses(6, camera, generator, distance_m=(0.2, 0.25), yaw_deg=45)
    clean = observe(points(model, random_shape(6, generator)), T, camera, 1, 1, generator)
    sigma = 0.3 + 3 * torch.rand(clean.uv.shape[:2], generator=generator, dtype=torch.float64)
    keypoints = replace(clean, cov_uv=isotropic(sigma))
    options = PavlakosOptions(shape_weight=0.1, tolerance=0, max_iterations=700)
    result = fit_pavlakos(keypoints, model, camera, options)

    rays = camera.unproject(keypoints.uv).rays
    weight = sigma**-2
    weight = weight / weight.mean(-1, keepdim=True)
    unit_m = points(model).std(0, correction=0).mean()

    def cost(omega, dt, dc):
        xyz = points(model, result.shape + dc) @ (so3.exp(omega) @ result.T_cam_head[:, :3, :3]).mT
        xyz = xyz + result.T_cam_head[:, None, :3, 3] + dt[:, None]
        off_ray = torch.linalg.cross(rays, xyz) / unit_m
        data = (weight * off_ray.square().sum(-1)).sum(-1)
        return data + options.shape_weight * (result.shape + dc).square().sum(-1)

    zero = torch.zeros(6, 3, dtype=torch.float64), torch.zeros(6, 1 + MODES, dtype=torch.float64)
    torch.testing.assert_close(cost(zero[0], zero[0], zero[1]), result.cost)
    step = [torch.zeros_like(z, requires_grad=True) for z in (zero[0], zero[0], zero[1])]
    of_omega, of_dt, of_dc = torch.autograd.grad(cost(*step).sum(), step)
    assert of_omega.abs().max() < 1e-4
    assert (unit_m * of_dt).abs().max() < 1e-4
    assert of_dc[:, 1:].abs().max() < 1e-4


@pytest.mark.parametrize('perspective', ['full', 'weak'])
def test_far_faces_are_recovered_through_a_long_lens(perspective, model, generator):
    K_long = K.copy()
    K_long[0, 0] = K_long[1, 1] = 1e6
    camera = Camera.from_K(K_long, 960, 720)
    T = random_poses(10, camera, generator, distance_m=(900, 1100), yaw_deg=60)
    c = random_shape(10, generator)
    keypoints = observe(points(model, c), T, camera)
    options = PavlakosOptions(perspective, shape_weight=1e-7, tolerance=1e-7)
    result = fit_pavlakos(keypoints, model, camera, options)
    assert rotation_error_deg(result.T_cam_head, T).max() < 0.01
    torch.testing.assert_close(result.T_cam_head[:, :3, 3], T[:, :3, 3], rtol=1e-3, atol=0)
    torch.testing.assert_close(result.shape, c, rtol=0, atol=0.01)


def test_faces_beside_and_behind_a_fisheye(model, generator):
    """Rays beyond 90 deg count like any other, and the head comes out where they point."""
    camera = make_torch_camera('equidistant')
    angle = torch.linspace(1.2, 2.0, 8, dtype=torch.float64)
    direction = torch.stack([angle.sin(), 0 * angle, angle.cos()], -1)
    turn = so3.exp(torch.stack([0 * angle, angle, 0 * angle], -1))
    T = se3.from_rt(turn @ R_CAM_FRONTAL, 0.3 * direction)
    assert (T[-3:, 2, 3] < 0).all()
    keypoints = observe(points(model), T, camera)
    result = fit_pavlakos(keypoints, model, camera, PavlakosOptions(max_iterations=200))
    assert not result.failed.any()
    assert_poses_close(result.T_cam_head, T, max_deg=0.1, max_mm=1)


def test_heads_are_in_front_of_the_camera(model, generator):
    camera = make_torch_camera('plumb_bob_5')
    T = random_poses(50, camera, generator)
    keypoints = observe(points(model), T, camera, noise_px=3, generator=generator)
    result = fit_pavlakos(keypoints, model, camera)
    assert not result.failed.any()
    assert (result.T_cam_head[:, 2, 3] > 0).all()
    assert rotation_error_deg(result.T_cam_head, T).max() < 90  # no face seen inside out


def test_a_head_that_comes_out_behind_its_rays_has_failed(model, generator):
    """Keypoints anywhere in a picture that covers nearly every direction."""
    camera = Camera.from_K(
        [[200.0, 0, 500], [0, 200, 500], [0, 0, 1]], 1000, 1000, (), 'equidistant'
    )
    uv = 500 + 600 * (
        2 * torch.rand(200, len(model.xyz_head), 2, generator=generator, dtype=torch.float64) - 1
    )
    keypoints = Keypoints(uv, isotropic(torch.ones_like(uv[..., 0])), torch.ones(200))
    result = fit_pavlakos(keypoints, model, camera, QUICK)
    assert result.failed.any()
    assert not result.failed.all()
    rays, seen = camera.unproject(uv)
    depth = (rays * se3.apply(result.T_cam_head, points(model, result.shape))).sum(-1)
    assert ((seen * depth).sum(-1)[~result.failed] > 0).all()


def test_no_round_ever_raises_the_cost(model, generator):
    camera = make_torch_camera('plumb_bob_5')
    T = random_poses(50, camera, generator, distance_m=(0.3, 2))
    xyz_head = points(model, random_shape(50, generator))
    keypoints = observe(xyz_head, T, camera, noise_px=2, generator=generator)
    costs = [
        fit_pavlakos(
            keypoints, model, camera, PavlakosOptions(tolerance=0, max_iterations=rounds)
        ).cost
        for rounds in (5, 6, 7, 10, 20, 50)  # the start has settled after five
    ]
    for earlier, later in pairwise(costs):
        assert (later <= earlier * (1 + 1e-12)).all()
    assert (costs[-1] < costs[0]).all()


def test_the_size_of_the_head_is_held(model, generator):
    camera = make_torch_camera()
    T = random_poses(5, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(points(model), T, camera, noise_px=2, generator=generator)
    result = fit_pavlakos(keypoints, model, camera, QUICK)
    assert (result.shape[:, 0] == 0).all()
    assert (result.shape[:, 1:] != 0).all()


def test_the_order_of_the_keypoints_does_not_matter(model, generator):
    camera = make_torch_camera('rational_8')
    T = random_poses(5, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(points(model), T, camera, noise_px=1, generator=generator)
    order = torch.randperm(len(model.xyz_head), generator=generator)
    shuffled = replace(keypoints, uv=keypoints.uv[:, order], cov_uv=keypoints.cov_uv[:, order])
    rows = order.numpy()
    model_shuffled = replace(model, xyz_head=model.xyz_head[rows], modes=model.modes[:, rows])
    a = fit_pavlakos(keypoints, model, camera, QUICK)
    b = fit_pavlakos(shuffled, model_shuffled, camera, QUICK)
    torch.testing.assert_close(a.T_cam_head, b.T_cam_head, rtol=0, atol=1e-9)
    torch.testing.assert_close(a.shape, b.shape, rtol=0, atol=1e-9)


@pytest.mark.parametrize('elsewhere', [torch.nan, 12.0, -1e9])
def test_a_keypoint_without_confidence_is_absent(elsewhere, model, generator):
    camera = make_torch_camera('plumb_bob_5')
    T = random_poses(5, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(points(model), T, camera, noise_px=1, generator=generator)
    absent = torch.rand(keypoints.uv.shape[:2], generator=generator) < 0.3
    sigma = torch.where(absent, torch.inf, 1.0).double()
    keypoints = replace(keypoints, cov_uv=isotropic(sigma))
    moved = replace(keypoints, uv=torch.where(absent[..., None], elsewhere, keypoints.uv))
    a = fit_pavlakos(keypoints, model, camera, QUICK)
    b = fit_pavlakos(moved, model, camera, QUICK)
    assert not a.failed.any()
    assert torch.equal(a.T_cam_head, b.T_cam_head)
    assert torch.equal(a.shape, b.shape)


@pytest.mark.parametrize('perspective', ['full', 'weak'])
def test_one_hopeless_face_leaves_the_others_bit_identical(perspective, model, generator):
    camera = make_torch_camera('rational_8')
    T = random_poses(4, camera, generator, distance_m=(0.5, 2))
    good = observe(points(model), T, camera, noise_px=1, generator=generator)
    options = PavlakosOptions(perspective, max_iterations=20)
    alone = fit_pavlakos(good, model, camera, options)
    for damage in (torch.nan, 300.0):  # no pixel at all; all keypoints on one pixel
        uv = good.uv.clone()
        uv[2] = damage
        together = fit_pavlakos(replace(good, uv=uv), model, camera, options)
        assert together.failed.tolist() == [False, False, True, False]
        keep = [0, 1, 3]
        for name in ('T_cam_head', 'shape', 'cost', 'iterations'):
            assert torch.equal(getattr(together, name)[keep], getattr(alone, name)[keep])


@pytest.mark.parametrize('perspective', ['full', 'weak'])
@pytest.mark.parametrize(
    'damage',
    [
        lambda uv, sigma: (uv * torch.nan, sigma),
        lambda uv, sigma: (uv * torch.inf, sigma),
        lambda uv, sigma: (uv, sigma * torch.inf),
        lambda uv, sigma: (uv, sigma * torch.nan),
        lambda uv, sigma: (uv, sigma * 0),
        lambda uv, sigma: (uv * 0 + 300, sigma),
        lambda uv, sigma: (uv, torch.where(torch.arange(sigma.shape[1]) < 5, sigma, torch.inf)),
    ],
    ids=['nan', 'inf', 'no weight', 'nan sigma', 'zero sigma', 'one pixel', 'five keypoints'],
)
def test_hopeless_keypoints_fail_without_nan(damage, perspective, model, generator):
    camera = make_torch_camera()
    keypoints = observe(points(model), random_poses(2, camera, generator), camera)
    uv, sigma = damage(keypoints.uv, keypoints.sigma_px)
    keypoints = replace(keypoints, uv=uv, cov_uv=isotropic(sigma))
    options = PavlakosOptions(perspective, max_iterations=20)
    result = fit_pavlakos(keypoints, model, camera, options)
    assert result.failed.all()
    assert not result.converged.any()
    assert torch.equal(result.T_cam_head, torch.eye(4).double().expand(2, -1, -1))
    assert (result.shape == 0).all()
    assert not result.cost.isnan().any()


def test_no_step_asks_the_device_for_a_number(model):
    """Tensors without data raise when the host wants to know a value."""
    basis = ShapeBasis.normalise(
        points(model).to('meta'), torch.from_numpy(model.modes).to('meta')
    )
    rays = torch.empty(7, len(model.xyz_head), 3, dtype=torch.float64, device='meta')
    weight = torch.empty_like(rays[..., 0])
    problem = WeakPerspectiveProblem.build(basis, rays, confidences(weight), shape_weight=1)
    start = problem.alternate(tolerance=1e-3, max_iterations=2)
    state = alternate_full_perspective(basis, rays, weight, start, QUICK)
    assert state.R.shape == (7, 3, 3)


def test_no_faces_and_no_modes(model, generator):
    camera = make_torch_camera()
    T = random_poses(3, camera, generator, distance_m=(0.5, 2))
    empty = observe(points(model), T[:0], camera)
    result = fit_pavlakos(empty, model, camera, QUICK)
    assert result.T_cam_head.shape == (0, 4, 4)
    assert result.shape.shape == (0, 1 + MODES)
    rigid = replace(model, modes=model.modes[:0], mode_names=())
    result = fit_pavlakos(observe(points(model), T, camera), rigid, camera, QUICK)
    assert result.shape.shape == (3, 1)
    assert rotation_error_deg(result.T_cam_head, T).max() < 0.5


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'perspective': 'affine'}, "perspective 'affine' is not one of full, weak"),
        ({'shape_weight': 0}, 'shape_weight must be positive'),
        ({'max_iterations': 0}, 'max_iterations must be positive'),
        ({'tolerance': -1e-3}, 'tolerance must be >= 0'),
    ],
)
def test_bad_options_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PavlakosOptions(**kwargs)
