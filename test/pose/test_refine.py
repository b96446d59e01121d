"""Poses and shapes from keypoints: exact, robust, and never an exception."""

from dataclasses import replace

import pytest
import torch
from face_pose_ros.pose.levenberg_marquardt import StopReason
from face_pose_ros.pose.refine import (
    PoseOptions,
    default_shape_prior,
    fit_pose,
    fit_pose_torch,
)
from face_pose_ros.pose.residuals import PosePrior, ShapePrior
from helpers.asserts import assert_poses_close, rotation_error_deg
from helpers.cameras import DISTORTIONS, make_camera
from helpers.scene import isotropic, observe, random_poses

from face_pose_ros.geometry import se3, so3
from face_pose_ros.results import Keypoints


def in_torch(keypoints, model, camera, options=None, T_init=None):
    options = options or PoseOptions()
    prior = default_shape_prior(model, options)
    return fit_pose_torch(keypoints, model, camera, options, T_init, prior)


@pytest.fixture(params=[fit_pose, in_torch], ids=['compiled', 'torch'])
def fit(request):
    return request.param


@pytest.mark.parametrize('name', DISTORTIONS)
def test_the_pose_is_recovered_from_any_view(name, fit, rigid, generator):
    camera = make_camera(name)
    T = random_poses(100, camera, generator)
    result = fit(observe(rigid.xyz_head, T, camera), rigid, camera)
    # Pixels that the lens model cannot see back are no keypoints; at 0.3 m a face may have many.
    assert not result.poses.failed.any()
    assert_poses_close(result.poses.T_cam_head, T, max_deg=1e-4, max_mm=1e-3)


@pytest.mark.parametrize('name', ['plumb_bob_5', 'equidistant'])
def test_the_shape_is_recovered_where_the_size_is_known(name, fit, wavy, generator):
    """The size itself can't be seen: a larger head further away gives the same picture."""
    camera = make_camera(name)
    face = wavy.keep('identity', 'jaw_open')
    T = random_poses(10, camera, generator, distance_m=(0.4, 0.6), yaw_deg=40)
    shape = torch.randn(10, len(face.shape_names), generator=generator).double()
    shape[:, 0] = 0
    options = PoseOptions(independent_keypoints=1e9)
    keypoints = observe(face.points(shape), T, camera, sigma_px=1e-3)
    poses = fit(keypoints, face, camera, options).poses
    torch.testing.assert_close(poses.shape, shape, rtol=0, atol=1e-3)
    assert_poses_close(poses.T_cam_head, T, max_deg=1e-3, max_mm=0.05)


def test_a_start_far_off_leads_to_the_same_pose(fit, wavy, generator):
    camera = make_camera('plumb_bob_5')
    T = random_poses(20, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    offset = se3.from_rt(
        so3.exp(torch.tensor([0.2, -0.1, 0.15]).double()),
        torch.tensor([0.02, -0.01, 0.1]).double(),
    )
    options = PoseOptions(kernel='huber', visibility=False, cost_tolerance=1e-12)
    far = fit(keypoints, wavy, camera, options, T_init=T @ offset)
    near = fit(keypoints, wavy, camera, options)
    assert_poses_close(far.poses.T_cam_head, near.poses.T_cam_head, max_deg=1e-2, max_mm=0.1)
    assert (far.stop == StopReason.CONVERGED).all()
    assert (far.iterations > 1).all()


def test_outliers_do_not_move_the_pose(fit, rigid, generator):
    camera = make_camera('plumb_bob_5')
    T = random_poses(100, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    clean = observe(rigid.xyz_head, T, camera, noise_px=1, generator=generator)
    outlier = torch.rand(clean.presence.shape[0], 468, generator=generator) < 0.2
    shift = 80 * torch.randn(clean.uv.shape, generator=generator, dtype=torch.float64)
    dirty = replace(clean, uv=torch.where(outlier[..., None], clean.uv + shift, clean.uv))
    oracle = replace(clean, cov_uv=isotropic(torch.where(outlier, torch.inf, 1.0)))
    errors = {
        name: rotation_error_deg(fit(k, rigid, camera, o).poses.T_cam_head, T).mean()
        for name, k, o in (
            ('robust', dirty, PoseOptions(visibility=False)),
            ('oracle', oracle, PoseOptions(kernel='none', visibility=False)),
            ('plain', dirty, PoseOptions(kernel='none', visibility=False)),
        )
    }
    assert errors['robust'] <= 1.1 * errors['oracle']
    assert errors['plain'] > 5 * errors['oracle']


def test_a_hand_over_a_third_of_the_face(fit, rigid, generator):
    """Outliers that agree with each other: only samples of few keypoints escape them."""
    camera = make_camera()
    T = random_poses(50, camera, generator, distance_m=(0.5, 1), yaw_deg=30)
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=1, generator=generator)
    covered = rigid.xyz_head[:, 2] < rigid.xyz_head[:, 2].quantile(0.33)
    uv = keypoints.uv.clone()
    uv[:, covered] += torch.tensor([150.0, 60.0]).double()
    found = fit(replace(keypoints, uv=uv), rigid, camera, PoseOptions(visibility=False)).poses
    assert (rotation_error_deg(found.T_cam_head, T) < 3).double().mean() >= 0.98


def test_a_more_certain_keypoint_weighs_more(fit, rigid, generator):
    camera = make_camera()
    T = random_poses(10, camera, generator, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(rigid.xyz_head, T, camera)
    noisy = torch.rand(468, generator=generator) < 0.5
    uv = keypoints.uv.clone()
    uv[:, noisy] += 10 * torch.randn(10, int(noisy.sum()), 2, generator=generator).double()
    options = PoseOptions(kernel='none')
    blind = fit(replace(keypoints, uv=uv), rigid, camera, options)
    sigma = torch.where(noisy, 10.0, 0.01).double().expand(10, -1)
    informed = fit(replace(keypoints, uv=uv, cov_uv=isotropic(sigma)), rigid, camera, options)
    blind_deg = rotation_error_deg(blind.poses.T_cam_head, T)
    assert (rotation_error_deg(informed.poses.T_cam_head, T) < 0.01 * blind_deg).all()


def test_a_hidden_cheek_that_the_network_guesses_wrong(fit, rigid, generator):
    camera = make_camera()
    T = random_poses(40, camera, generator, distance_m=(0.5, 1), yaw_deg=1)
    turn = so3.exp(torch.tensor([0, 0, 1.1]).double())
    T = se3.from_rt(T[:, :3, :3] @ turn, T[:, :3, 3])
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=0.5, generator=generator)
    facing = -(camera.unproject(keypoints.uv).rays * (rigid.normals @ T[:, :3, :3].mT)).sum(-1)
    hidden = (facing < -0.1)[..., None]
    inwards = 0.3 * (keypoints.uv.mean(1, keepdim=True) - keypoints.uv)
    guessed = replace(keypoints, uv=torch.where(hidden, keypoints.uv + inwards, keypoints.uv))
    errors = [
        rotation_error_deg(
            fit(
                guessed, rigid, camera, PoseOptions(kernel='huber', visibility=v)
            ).poses.T_cam_head,
            T,
        ).mean()
        for v in (True, False)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_a_known_interpupillary_distance_is_the_scale(fit, wavy, generator):
    camera = make_camera()
    T = random_poses(5, camera, generator, distance_m=(2, 3), yaw_deg=30)
    # Of people with 70 mm between their pupils, 1 + 0.007 m size_per_m is the mean size.
    size = 1 + 0.007 * wavy.size_per_m
    keypoints = observe(size * wavy.xyz_head, T, camera)
    known = PoseOptions(interpupillary_mm=70, interpupillary_sigma_mm=0.1)
    poses = fit(keypoints, wavy, camera, known).poses
    torch.testing.assert_close(poses.T_cam_head[:, :3, 3], T[:, :3, 3], rtol=0.01, atol=0)
    unknown = fit(keypoints, wavy, camera).poses
    distance = T[:, :3, 3].norm(dim=-1)
    assert (unknown.T_cam_head[:, :3, 3].norm(dim=-1) < 0.97 * distance).all()
    along = [
        (p.covariance[:, :3, :3] @ (T[:, :3, 3] / distance[:, None])[..., None]).norm(dim=(-1, -2))
        for p in (poses, unknown)
    ]
    assert (along[0] < 0.75 * along[1]).all()
    share = (wavy.size_sigma_given_pupils / wavy.size_sigma) ** 2
    assert poses.shape_covariance[:, 0, 0].tolist() == pytest.approx(5 * [share], rel=0.01)


def test_a_shape_prior_per_face(wavy, generator):
    camera = make_camera()
    T = random_poses(2, camera, generator, distance_m=(2, 3), yaw_deg=30)
    keypoints = observe(wavy.xyz_head, T, camera)
    mean = torch.zeros(2, len(wavy.shape_names)).double()
    mean[1, 0] = 2
    information = torch.eye(len(wavy.shape_names)).double().repeat(2, 1, 1)
    information[:, 0, 0] = 1e6
    for fit in (fit_pose, lambda *a, **k: in_torch_with_prior(*a, **k)):
        poses = fit(keypoints, wavy, camera, shape_prior=ShapePrior(mean, information)).poses
        ratio = poses.T_cam_head[:, :3, 3].norm(dim=-1) / T[:, :3, 3].norm(dim=-1)
        torch.testing.assert_close(
            ratio, torch.tensor([1, 1 + 2 * wavy.size_sigma]).double(), rtol=0.01, atol=0
        )


def in_torch_with_prior(keypoints, model, camera, shape_prior):
    return fit_pose_torch(keypoints, model, camera, PoseOptions(), None, shape_prior)


def test_a_pose_prior_decides_where_the_keypoints_cannot(rigid, generator):
    camera = make_camera()
    T = random_poses(5, camera, generator, distance_m=(0.5, 1), yaw_deg=30)
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=2, sigma_px=100, generator=generator)
    certain = torch.diag(torch.tensor([1e-5] * 3 + [1e-4] * 3).double() ** 2).expand(5, 6, 6)
    prior = PosePrior(T, certain)
    poses = fit_pose(keypoints, rigid, camera, pose_prior=prior).poses
    assert_poses_close(poses.T_cam_head, T, max_deg=0.01, max_mm=0.1)
    assert (
        poses.covariance.diagonal(dim1=-2, dim2=-1) <= 1.01 * certain.diagonal(dim1=-2, dim2=-1)
    ).all()
    vague = PosePrior(T, 1e6 * torch.eye(6).double().expand(5, 6, 6))
    without = fit_pose(keypoints, rigid, camera).poses
    poses = fit_pose(keypoints, rigid, camera, pose_prior=vague).poses
    assert_poses_close(poses.T_cam_head, without.T_cam_head, max_deg=0.01, max_mm=0.1)


def test_one_hopeless_face_leaves_the_others_bit_identical(fit, wavy, generator):
    camera = make_camera('rational_8')
    T = random_poses(4, camera, generator, distance_m=(0.5, 2))
    good = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    hopeless = replace(good, uv=good.uv.clone())
    hopeless.uv[2] = torch.nan
    alone = fit(good, wavy, camera).poses
    result = fit(hopeless, wavy, camera)
    assert result.poses.failed.tolist() == [False, False, True, False]
    assert result.stop[2] == StopReason.TOO_FEW_KEYPOINTS
    keep = [0, 1, 3]
    for name, value in vars(result.poses).items():
        assert torch.equal(value[keep], getattr(alone, name)[keep]), name


@pytest.mark.parametrize(
    'damage',
    [
        lambda uv, cov: (uv * torch.nan, cov),
        lambda uv, cov: (uv, cov * torch.inf),
        lambda uv, cov: (uv, cov * 0),
        lambda uv, cov: (uv, torch.where((torch.arange(468) < 5)[:, None, None], cov, torch.inf)),
        lambda uv, cov: (uv + 1e9, cov),
        lambda uv, cov: (uv * torch.inf, cov),
    ],
    ids=['nan', 'no weight', 'zero sigma', 'five keypoints', 'past the lens', 'infinite'],
)
def test_hopeless_keypoints_fail_with_a_reason(damage, fit, wavy, generator):
    camera = make_camera('plumb_bob_5')
    keypoints = observe(wavy.xyz_head, random_poses(2, camera, generator), camera)
    uv, cov_uv = damage(keypoints.uv, keypoints.cov_uv)
    result = fit(replace(keypoints, uv=uv, cov_uv=cov_uv), wavy, camera)
    assert result.poses.failed.all()
    assert (result.stop == StopReason.TOO_FEW_KEYPOINTS).all()
    assert torch.equal(result.poses.T_cam_head, torch.eye(4).double().expand(2, 4, 4))
    assert result.poses.covariance.isinf().all()
    assert not any(value.isnan().any() for value in vars(result.poses).values())


@pytest.mark.parametrize('name', ['none', 'equidistant'])
def test_all_keypoints_on_one_pixel_give_no_nan(name, fit, wavy):
    camera = make_camera(name)
    keypoints = observe(wavy.xyz_head, random_poses(1, camera, torch.Generator()), camera)
    result = fit(replace(keypoints, uv=0 * keypoints.uv + 300), wavy, camera)
    assert not any(value.isnan().any() for value in vars(result.poses).values())


def test_a_face_seen_in_a_mirror_fails_or_fits_badly_but_is_finite(fit, rigid, generator):
    """No rotation explains a mirrored face, and no pose behind the camera is ever reported."""
    camera = make_camera()
    T = random_poses(20, camera, generator, distance_m=(0.3, 0.5), yaw_deg=30)
    xyz_cam = se3.apply(T, rigid.xyz_head)
    behind = observe(rigid.xyz_head, T, camera)
    behind = replace(behind, uv=camera.project(xyz_cam * xyz_cam.new_tensor([-1, -1, 1])).uv)
    poses = fit(behind, rigid, camera).poses
    assert ((poses.T_cam_head[:, 2, 3] > 0) | poses.failed).all()
    assert not any(value.isnan().any() for value in vars(poses).values())


def test_nothing_asks_the_device_for_a_number(wavy, generator):
    """So that a CUDA graph can hold it. Tensors without data raise when the host wants a value."""
    camera = make_camera('plumb_bob_5')
    keypoints = observe(wavy.xyz_head, random_poses(3, camera, generator), camera)
    elsewhere = {
        name: value.to('meta') for name, value in vars(wavy).items() if torch.is_tensor(value)
    }
    face, options = replace(wavy, **elsewhere), PoseOptions()
    with torch.no_grad():
        result = fit_pose_torch(
            Keypoints(*(value.to('meta') for value in vars(keypoints).values())),
            face,
            camera.to('meta'),
            options,
            None,
            default_shape_prior(face, options),
        )
    assert result.poses.covariance.shape == (3, 6, 6)


def test_no_faces(fit, wavy):
    empty = observe(wavy.xyz_head, torch.zeros(0, 4, 4).double(), make_camera())
    poses = fit(empty, wavy, make_camera()).poses
    modes = len(wavy.shape_names)
    assert poses.T_cam_head.shape == (0, 4, 4)
    assert poses.covariance.shape == (0, 6, 6)
    assert poses.pose_of_shape.shape == (0, 6, modes)
    assert poses.shape_covariance.shape == (0, modes, modes)
    assert len(poses) == 0


def test_five_hundred_faces(fit, wavy, generator):
    camera = make_camera('plumb_bob_5')
    T = random_poses(500, camera, generator, distance_m=(0.5, 3), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    poses = fit(keypoints, wavy, camera).poses
    assert not poses.failed.any()
    assert rotation_error_deg(poses.T_cam_head, T).median() < 1


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'kernel': 'tukey'}, "kernel 'tukey' is not one of none, huber"),
        ({'start': 'random'}, "start 'random' is not one of sqpnp"),
        ({'max_iterations': 0}, 'max_iterations must be positive'),
        ({'interpupillary_sigma_mm': -0.1}, 'interpupillary_sigma_mm must be positive'),
        ({'kernel_scale': float('nan')}, 'kernel_scale must be positive'),
    ],
)
def test_bad_options_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PoseOptions(**kwargs)
