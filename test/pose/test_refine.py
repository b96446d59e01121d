"""The ladder: zero at the truth, Jacobian, closed-form start, refinement, covariance, failures."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers.asserts import assert_poses_close, position_error_mm, rotation_error_deg
from helpers.cameras import DISTORTIONS, make_camera
from helpers.scene import observe, random_poses

from face_pose_ros.geometry import robust, se3, so3
from face_pose_ros.pose.face_model import canonical_face
from face_pose_ros.pose.pnp import solve_pnp_rays
from face_pose_ros.pose.refine import PoseOptions, StopReason, fit_pose
from face_pose_ros.pose.residuals import ReprojectionProblem


@pytest.fixture(scope='module')
def model():
    return canonical_face()


def make_problem(model, camera, keypoints, kernel='none'):
    return ReprojectionProblem(
        model.xyz_head,
        keypoints.uv,
        1 / keypoints.sigma_px,
        camera,
        robust.KERNELS[kernel],
        kernel_scale=3.0,
    )


def test_canonical_face_is_a_face_in_the_head_frame(model):
    xyz = model.xyz_head
    right_eye_corner, left_eye_corner, nose_tip, chin, forehead, sellion = xyz[
        [33, 263, 4, 152, 10, 168]
    ]
    assert right_eye_corner[1] < 0 < left_eye_corner[1]
    assert chin[2] < nose_tip[2] < forehead[2]
    assert nose_tip[0] > sellion[0] > right_eye_corner[0]
    torch.testing.assert_close(sellion, torch.zeros(3).double())
    # Outer eye corners of adults are 8 to 10 cm apart.
    assert 0.08 < left_eye_corner[1] - right_eye_corner[1] < 0.10


@pytest.mark.parametrize('name', DISTORTIONS)
def test_cost_and_gradient_vanish_at_the_truth(name, model, generator):
    camera = make_camera(name)
    T = random_poses(5, camera, generator)
    system = make_problem(model, camera, observe(model.xyz_head, T, camera)).normal_equations(
        T[:, :3, :3], T[:, :3, 3]
    )
    assert system.cost.max() < 1e-18
    assert system.g.abs().max() < 1e-6


@pytest.mark.parametrize('kernel', robust.KERNELS)
@pytest.mark.parametrize('name', DISTORTIONS)
def test_gradient_agrees_with_autograd(name, kernel, model, generator):
    camera = make_camera(name)
    T = random_poses(3, camera, generator, distance_m=(0.4, 2.0))
    keypoints = observe(model.xyz_head, T, camera, noise_px=4, generator=generator)
    problem = make_problem(model, camera, keypoints, kernel)
    R, t = T[:, :3, :3], T[:, :3, 3]
    delta = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    cost = problem.normal_equations(*problem.step(R, t, delta)).cost
    (gradient,) = torch.autograd.grad(cost.sum(), delta)
    torch.testing.assert_close(problem.normal_equations(R, t).g, gradient, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_closed_form_start_is_exact_without_noise(name, model, generator):
    camera = make_camera(name)
    T = random_poses(100, camera, generator)
    rays = camera.unproject(observe(model.xyz_head, T, camera).uv).rays
    start = solve_pnp_rays(model.xyz_head, rays, torch.ones_like(rays[..., 0]))
    T_start = se3.from_rt(start.R_cam_head, start.t_cam_head)
    good = (rotation_error_deg(T_start, T) < 0.01) & (position_error_mm(T_start, T) < 0.1)
    assert good.double().mean() >= 0.99


@pytest.mark.parametrize('name', DISTORTIONS)
def test_refinement_recovers_the_pose(name, model, generator):
    camera = make_camera(name)
    T = random_poses(100, camera, generator)
    keypoints = observe(model.xyz_head, T, camera)
    result = fit_pose(keypoints, model, camera)
    # Pixels that the lens model cannot see back are no keypoints; at 0.3 m a face may have many.
    assert not result.poses.failed.any()
    assert_poses_close(result.poses.T_cam_head, T, max_deg=1e-4, max_mm=1e-3)
    assert (result.cost <= result.cost_initial).all()


def test_refinement_from_a_start_lowers_the_cost(model, generator):
    camera = make_camera('plumb_bob_5')
    T = random_poses(20, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(model.xyz_head, T, camera, noise_px=1, generator=generator)
    offset = se3.from_rt(
        so3.exp(torch.tensor([0.2, -0.1, 0.15]).double()),
        torch.tensor([0.02, -0.01, 0.1]).double(),
    )
    options = PoseOptions(kernel='huber')
    far = fit_pose(keypoints, model, camera, options, T_init=T @ offset)
    near = fit_pose(keypoints, model, camera, options)
    assert (far.cost < 0.5 * far.cost_initial).all()
    assert_poses_close(far.poses.T_cam_head, near.poses.T_cam_head, max_deg=1e-3, max_mm=1e-2)
    assert (far.stop == StopReason.CONVERGED).all()
    assert (far.iterations > 1).all()


def test_no_step_ever_raises_the_cost(model, generator):
    """From starts anywhere, where undamped steps overshoot."""
    camera = make_camera('plumb_bob_5')
    T = random_poses(100, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(model.xyz_head, T, camera)
    T_init = random_poses(100, camera, generator, distance_m=(0.5, 2))
    options = [PoseOptions(kernel='none', max_iterations=i) for i in (1, 2, 3, 5, 8)]
    costs = [fit_pose(keypoints, model, camera, o, T_init=T_init).cost for o in options]
    for earlier, later in pairwise(costs):
        assert (later <= earlier).all()


def test_outliers_do_not_move_the_pose(model, generator):
    camera = make_camera('plumb_bob_5')
    T = random_poses(50, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    clean = observe(model.xyz_head, T, camera, noise_px=1, generator=generator)
    outlier = torch.rand(clean.sigma_px.shape, generator=generator) < 0.2
    shift = 80 * torch.randn(clean.uv.shape, generator=generator, dtype=torch.float64)
    dirty = replace(clean, uv=torch.where(outlier[..., None], clean.uv + shift, clean.uv))
    oracle = replace(clean, sigma_px=torch.where(outlier, torch.inf, clean.sigma_px))
    errors = {
        name: rotation_error_deg(fit_pose(k, model, camera, o).poses.T_cam_head, T).mean()
        for name, k, o in (
            ('robust', dirty, PoseOptions()),
            ('oracle', oracle, PoseOptions(kernel='none')),
            ('plain', dirty, PoseOptions(kernel='none')),
        )
    }
    assert errors['robust'] <= 1.1 * errors['oracle']
    assert errors['plain'] > 5 * errors['oracle']


def test_a_more_certain_keypoint_weighs_more(model, generator):
    camera = make_camera()
    T = random_poses(10, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(model.xyz_head, T, camera)
    noisy = torch.rand(468, generator=generator) < 0.5
    uv = keypoints.uv.clone()
    uv[:, noisy] += 10 * torch.randn(10, int(noisy.sum()), 2, generator=generator).double()
    options = PoseOptions(kernel='none')
    blind = fit_pose(replace(keypoints, uv=uv), model, camera, options)
    sigma = torch.where(noisy, 10.0, 0.01).double().expand(10, -1)
    informed = fit_pose(replace(keypoints, uv=uv, sigma_px=sigma), model, camera, options)
    blind_deg = rotation_error_deg(blind.poses.T_cam_head, T)
    assert (rotation_error_deg(informed.poses.T_cam_head, T) < 0.01 * blind_deg).all()


def test_covariance_predicts_the_spread(model, generator):
    """Independent noise on every keypoint: normalised error squared is chi-square with 6 dof."""
    camera = make_camera('plumb_bob_5')
    options = PoseOptions(kernel='none', independent_keypoints=468, face_scale_sigma=0)
    T = random_poses(400, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(model.xyz_head, T, camera, noise_px=1.5, sigma_px=1.5, generator=generator)
    poses = fit_pose(keypoints, model, camera, options).poses
    error = torch.cat(
        [
            poses.T_cam_head[:, :3, 3] - T[:, :3, 3],
            so3.log(poses.T_cam_head[:, :3, :3] @ T[:, :3, :3].mT),
        ],
        -1,
    )
    nees = (error * torch.linalg.solve(poses.covariance, error)).sum(-1)
    # The variance factor never goes below 1, which adds a little to the covariance.
    assert 5.0 < nees.mean() < 6.5
    assert 0.92 < (nees < 12.592).double().mean() < 0.98  # 95 % of chi-square with 6 dof


def test_unknown_face_size_is_uncertainty_along_the_ray(model, generator):
    camera = make_camera()
    T = random_poses(4, camera, generator, distance_m=(1, 2))
    keypoints = observe(model.xyz_head, T, camera)
    with_size = fit_pose(keypoints, model, camera, PoseOptions(face_scale_sigma=0.06)).poses
    without = fit_pose(keypoints, model, camera, PoseOptions(face_scale_sigma=0)).poses
    t = T[:, :3, 3]
    expected = 0.0036 * t[:, :, None] * t[:, None, :]
    torch.testing.assert_close(
        with_size.covariance[:, :3, :3] - without.covariance[:, :3, :3],
        expected,
        rtol=1e-4,
        atol=0,
    )


def test_one_hopeless_face_leaves_the_others_bit_identical(model, generator):
    camera = make_camera('rational_8')
    T = random_poses(4, camera, generator, distance_m=(0.5, 2))
    good = observe(model.xyz_head, T, camera, noise_px=1, generator=generator)
    hopeless = replace(good, uv=good.uv.clone())
    hopeless.uv[2] = torch.nan
    alone = fit_pose(good, model, camera)
    together = fit_pose(hopeless, model, camera)
    assert together.poses.failed.tolist() == [False, False, True, False]
    assert together.stop[2] == StopReason.TOO_FEW_KEYPOINTS
    for name in ('T_cam_head', 'covariance'):
        keep = [0, 1, 3]
        assert torch.equal(getattr(together.poses, name)[keep], getattr(alone.poses, name)[keep])


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda uv, sigma: (uv * torch.nan, sigma), StopReason.TOO_FEW_KEYPOINTS),
        (lambda uv, sigma: (uv, sigma * torch.inf), StopReason.TOO_FEW_KEYPOINTS),
        (lambda uv, sigma: (uv, sigma * 0), StopReason.TOO_FEW_KEYPOINTS),
        (
            lambda uv, sigma: (uv, torch.where(torch.arange(468) < 5, sigma, torch.inf)),
            StopReason.TOO_FEW_KEYPOINTS,
        ),
    ],
    ids=['nan', 'no weight', 'zero sigma', 'five keypoints'],
)
def test_hopeless_keypoints_fail_with_a_reason(damage, reason, model, generator):
    camera = make_camera()
    keypoints = observe(model.xyz_head, random_poses(2, camera, generator), camera)
    uv, sigma = damage(keypoints.uv, keypoints.sigma_px)
    result = fit_pose(replace(keypoints, uv=uv, sigma_px=sigma), model, camera)
    assert result.poses.failed.all()
    assert (result.stop == reason).all()
    assert result.poses.T_cam_head.isfinite().all()
    assert result.poses.covariance.isinf().all()


def test_all_keypoints_on_one_pixel_give_no_nan(model):
    camera = make_camera()
    keypoints = observe(model.xyz_head, random_poses(1, camera, torch.Generator()), camera)
    result = fit_pose(replace(keypoints, uv=0 * keypoints.uv + 300), model, camera)
    assert not result.poses.T_cam_head.isnan().any()
    assert not result.poses.covariance.isnan().any()


def test_no_faces(model):
    empty = observe(model.xyz_head, torch.zeros(0, 4, 4).double(), make_camera())
    result = fit_pose(empty, model, make_camera())
    assert result.poses.T_cam_head.shape == (0, 4, 4)
    assert result.poses.covariance.shape == (0, 6, 6)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'kernel': 'tukey'}, "kernel 'tukey' is not one of none, huber"),
        ({'max_iterations': 0}, 'max_iterations must be positive'),
        ({'face_scale_sigma': -0.1}, 'face_scale_sigma must be >= 0'),
    ],
)
def test_bad_options_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PoseOptions(**kwargs)
