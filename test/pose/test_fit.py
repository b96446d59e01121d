# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses and shapes from keypoints: exact, robust, and never an exception."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from helpers.asserts import assert_poses_close, rotation_error_deg
from helpers.cameras import DISTORTIONS, make_camera
from helpers.heads import observe, random_poses
from scipy.optimize import least_squares

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import KERNELS, PoseOptions
from face_pose_ros.pose.fit import ShapePrior, StopReason, fit_pose
from face_pose_ros.results import Keypoints

_EXACT = {'step_tolerance': 1e-11, 'cost_tolerance': 1e-15, 'max_iterations': 60}


def isotropic(sigma):
    """Covariances (..., 2, 2) of standard deviations (...)."""
    return np.asarray(sigma)[..., None, None] ** 2 * np.eye(2)


def has_nan(poses):
    return any(np.isnan(getattr(poses, field.name)).any() for field in fields(poses))


@pytest.mark.parametrize('name', DISTORTIONS)
def test_the_pose_is_recovered_from_any_view(name, rigid, rng):
    camera = make_camera(name)
    T = random_poses(100, camera, rng)
    result = fit_pose(observe(rigid.xyz_head, T, camera), rigid, camera)
    # Pixels that the lens model cannot see back are no keypoints; at 0.3 m a face may have many.
    assert not result.poses.failed.any()
    assert_poses_close(result.poses.T_cam_head, T, max_deg=1e-4, max_mm=1e-3)


@pytest.mark.parametrize('name', ['plumb_bob_5', 'equidistant'])
def test_the_shape_is_recovered_where_the_size_is_known(name, wavy, rng):
    """The size itself can't be seen: a larger head further away gives the same picture."""
    camera = make_camera(name)
    face = wavy.keep('identity', 'jaw_open')
    T = random_poses(10, camera, rng, distance_m=(0.4, 0.6), yaw_deg=40)
    shape = rng.standard_normal((10, len(face.shape_names)))
    shape[:, 0] = 0
    options = PoseOptions(independent_keypoints=1e9)
    keypoints = observe(face.points(shape), T, camera, sigma_px=1e-3)
    poses = fit_pose(keypoints, face, camera, options).poses
    np.testing.assert_allclose(poses.shape, shape, rtol=0, atol=1e-3)
    assert_poses_close(poses.T_cam_head, T, max_deg=1e-3, max_mm=0.05)


@pytest.mark.parametrize('name', ['none', 'plumb_bob_5', 'rational_8'])
def test_opencv_finds_the_same_minimum(name, rigid, rng):
    """cv2.solvePnP minimises the same sum of squares, but for the lens's curvature."""
    camera = make_camera(name)
    T = random_poses(10, camera, rng, distance_m=(0.5, 1), yaw_deg=50)
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=1, rng=rng)
    options = PoseOptions(kernel='none', visibility=False, **_EXACT)
    found = fit_pose(keypoints, rigid, camera, options).poses.T_cam_head
    for uv, T_found in zip(keypoints.uv, found, strict=True):
        dist = camera.dist[:12]
        _, rotvec, t = cv2.solvePnP(rigid.xyz_head, uv, camera.K, dist, flags=cv2.SOLVEPNP_SQPNP)
        rotvec, t = cv2.solvePnPRefineLM(rigid.xyz_head, uv, camera.K, dist, rotvec, t)
        expected = rotations.from_rt(rotations.exp(rotvec.ravel()), t.ravel())
        assert_poses_close(T_found[None], expected[None], max_deg=0.02, max_mm=0.2)


def robust_root(kernel, k, s):
    """Square root of rho(s), as least_squares wants it."""
    return {
        'none': np.sqrt(s),
        'huber': np.sqrt(np.where(s <= k * k, s, 2 * k * np.sqrt(s) - k * k)),
        'cauchy': k * np.sqrt(np.log1p(s / (k * k))),
        'geman_mcclure': np.sqrt(s / (1 + s / (k * k))),
    }[kernel]


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('name', ['plumb_bob_5', 'thin_prism_12', 'equidistant'])
def test_scipy_finds_the_same_minimum(name, kernel, wavy, rng):
    """Of the residuals as src/lm.hpp states them, in plain numpy."""
    camera, face = make_camera(name), wavy.keep('identity').every(6)
    T = random_poses(1, camera, rng, distance_m=(0.5, 1.5), yaw_deg=50)
    keypoints = observe(face.xyz_head, T, camera, noise_px=1, rng=rng)
    root = np.eye(2) + 0.2 * rng.standard_normal((1, len(face.xyz_head), 2, 2))
    keypoints = replace(keypoints, cov_uv=root @ root.swapaxes(-1, -2))
    rays = camera.unproject(keypoints.uv[0]).rays
    J = camera.project(rays, jacobian=True).J_uv_xyz
    L = np.linalg.inv(np.linalg.cholesky(keypoints.cov_uv[0]))
    share = np.sqrt(20 / len(rays))

    def residuals(x):
        points = face.xyz_head + np.tensordot(x[6:], face.modes, axes=1)
        p = rotations.apply(rotations.moved(T[0], x[:6]), points)
        r = (L @ J @ p[..., None])[..., 0] / (rays * p).sum(-1, keepdims=True)
        return np.concatenate([share * robust_root(kernel, 3.0, (r * r).sum(-1)), x[6:]])

    start = np.zeros(6 + len(face.modes))
    expected = least_squares(residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-12, x_scale='jac')
    options = PoseOptions(kernel=kernel, visibility=False, independent_keypoints=20, **_EXACT)
    found = fit_pose(keypoints, face, camera, options)
    assert found.cost[0] == pytest.approx(expected.cost, rel=1e-7)
    T_expected = rotations.moved(T[0], expected.x[:6])
    assert_poses_close(found.poses.T_cam_head, T_expected[None], max_deg=1e-3, max_mm=0.01)
    np.testing.assert_allclose(found.poses.shape[0, 1:], expected.x[6:], rtol=0, atol=1e-4)


def test_no_more_steps_are_tried_than_allowed(wavy, rng):
    camera = make_camera('plumb_bob_5')
    T = random_poses(20, camera, rng, distance_m=(0.5, 2))
    start = random_poses(20, camera, rng, distance_m=(0.5, 2))
    keypoints = observe(wavy.xyz_head, T, camera)
    options = PoseOptions(kernel='none', visibility=False, max_iterations=2)
    fit = fit_pose(keypoints, wavy, camera, options, T_init=start)
    assert (fit.iterations <= 2).all()
    assert (fit.stop == StopReason.MAX_ITERATIONS).any()


def test_below_the_resolution_of_the_cost_no_step_is_accepted(wavy, rng):
    camera = make_camera()
    T = random_poses(2, camera, rng, distance_m=(0.5, 2))
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, rng=rng)
    hair_splitting = PoseOptions(step_tolerance=1e-300, cost_tolerance=1e-300, max_iterations=200)
    assert (fit_pose(keypoints, wavy, camera, hair_splitting).stop <= StopReason.NO_DESCENT).all()


def test_a_start_far_off_leads_to_the_same_pose(wavy, rng):
    camera = make_camera('plumb_bob_5')
    T = random_poses(20, camera, rng, distance_m=(0.5, 2))
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, rng=rng)
    offset = rotations.from_rt(rotations.exp([0.2, -0.1, 0.15]), [0.02, -0.01, 0.1])
    options = PoseOptions(kernel='huber', visibility=False, cost_tolerance=1e-12)
    far = fit_pose(keypoints, wavy, camera, options, T_init=T @ offset)
    near = fit_pose(keypoints, wavy, camera, options)
    assert_poses_close(far.poses.T_cam_head, near.poses.T_cam_head, max_deg=1e-2, max_mm=0.1)
    assert (far.stop == StopReason.CONVERGED).all()


def test_outliers_do_not_move_the_pose(rigid, rng):
    camera = make_camera('plumb_bob_5')
    T = random_poses(400, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    clean = observe(rigid.xyz_head, T, camera, noise_px=1, rng=rng)
    outlier = rng.random((400, 468)) < 0.2
    shift = 80 * rng.standard_normal(clean.uv.shape)
    dirty = replace(clean, uv=np.where(outlier[..., None], clean.uv + shift, clean.uv))
    oracle = replace(clean, cov_uv=isotropic(np.where(outlier, 1e9, 1.0)))
    errors = {
        name: rotation_error_deg(fit_pose(k, rigid, camera, o).poses.T_cam_head, T).mean()
        for name, k, o in (
            ('robust', dirty, PoseOptions(visibility=False)),
            ('oracle', oracle, PoseOptions(kernel='none', visibility=False)),
            ('plain', dirty, PoseOptions(kernel='none', visibility=False)),
        )
    }
    assert errors['robust'] <= 1.1 * errors['oracle']
    assert errors['plain'] > 5 * errors['oracle']


def test_a_hand_over_a_third_of_the_face(rigid, rng):
    """Outliers that agree with each other: only samples of few keypoints escape them."""
    camera = make_camera()
    T = random_poses(50, camera, rng, distance_m=(0.5, 1), yaw_deg=30)
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=1, rng=rng)
    covered = rigid.xyz_head[:, 2] < np.quantile(rigid.xyz_head[:, 2], 0.33)
    keypoints.uv[:, covered] += 150, 60
    found = fit_pose(keypoints, rigid, camera, PoseOptions(visibility=False)).poses
    assert (rotation_error_deg(found.T_cam_head, T) < 3).mean() >= 0.98


def test_a_more_certain_keypoint_weighs_more(rigid, rng):
    camera = make_camera()
    T = random_poses(10, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(rigid.xyz_head, T, camera)
    noisy = rng.random(468) < 0.5
    keypoints.uv[:, noisy] += 10 * rng.standard_normal((10, noisy.sum(), 2))
    options = PoseOptions(kernel='none')
    blind = fit_pose(keypoints, rigid, camera, options)
    sigma = np.tile(np.where(noisy, 10.0, 0.01), (10, 1))
    informed = fit_pose(replace(keypoints, cov_uv=isotropic(sigma)), rigid, camera, options)
    blind_deg = rotation_error_deg(blind.poses.T_cam_head, T)
    assert (rotation_error_deg(informed.poses.T_cam_head, T) < 0.01 * blind_deg).all()


def test_redundant_keypoints_count_as_few(rigid, rng):
    camera = make_camera()
    T = random_poses(2, camera, rng, distance_m=(0.6, 2))
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=1, rng=rng)
    keypoints.cov_uv[1, 100:] = np.inf
    options = {'kernel': 'none', 'visibility': False, **_EXACT}
    full, few = (
        fit_pose(keypoints, rigid, camera, PoseOptions(independent_keypoints=n, **options))
        for n in (1e9, 50)
    )
    assert few.cost / full.cost == pytest.approx([50 / 468, 50 / 100])


def test_a_hidden_cheek_that_the_network_guesses_wrong(rigid, rng):
    camera = make_camera()
    T = random_poses(40, camera, rng, distance_m=(0.5, 1), yaw_deg=1)
    T[:, :3, :3] = T[:, :3, :3] @ rotations.exp([0, 0, 1.1])
    keypoints = observe(rigid.xyz_head, T, camera, noise_px=0.5, rng=rng)
    normals = rigid.normals @ T[:, :3, :3].swapaxes(-1, -2)
    facing = -(camera.unproject(keypoints.uv).rays * normals).sum(-1)
    hidden = (facing < -0.1)[..., None]
    inwards = 0.3 * (keypoints.uv.mean(1, keepdims=True) - keypoints.uv)
    guessed = replace(keypoints, uv=np.where(hidden, keypoints.uv + inwards, keypoints.uv))
    options = [PoseOptions(kernel='huber', visibility=visible) for visible in (True, False)]
    poses = [fit_pose(guessed, rigid, camera, o).poses.T_cam_head for o in options]
    errors = [rotation_error_deg(T_found, T).mean() for T_found in poses]
    assert errors[0] < 0.6 * errors[1]


def test_a_known_interpupillary_distance_is_the_scale(wavy, rng):
    camera = make_camera()
    T = random_poses(5, camera, rng, distance_m=(2, 3), yaw_deg=30)
    # Of people with 70 mm between their pupils, 1 + 0.007 m size_per_m is the mean size.
    size = 1 + 0.007 * wavy.size_per_m
    keypoints = observe(size * wavy.xyz_head, T, camera)
    default = PoseOptions(independent_keypoints=6)
    known = replace(default, interpupillary_mm=70, interpupillary_sigma_mm=0.1)
    poses = fit_pose(keypoints, wavy, camera, known).poses
    np.testing.assert_allclose(poses.T_cam_head[:, :3, 3], T[:, :3, 3], rtol=0.01)
    unknown = fit_pose(keypoints, wavy, camera, default).poses
    distance = np.linalg.norm(T[:, :3, 3], axis=-1)
    assert (np.linalg.norm(unknown.T_cam_head[:, :3, 3], axis=-1) < 0.97 * distance).all()
    ray = (T[:, :3, 3] / distance[:, None])[..., None]
    along = [
        np.linalg.norm(p.covariance[:, :3, :3] @ ray, axis=(-1, -2)) for p in (poses, unknown)
    ]
    assert (along[0] < 0.8 * along[1]).all()
    share = (wavy.size_sigma_given_pupils / wavy.size_sigma) ** 2
    assert poses.shape_covariance[:, 0, 0] == pytest.approx(5 * [share], rel=0.01)


def test_a_shape_prior_per_face(wavy, rng):
    camera, C = make_camera(), len(wavy.shape_names)
    T = random_poses(2, camera, rng, distance_m=(2, 3), yaw_deg=30)
    keypoints = observe(wavy.xyz_head, T, camera)
    mean, covariance = np.zeros((2, C)), np.tile(np.eye(C), (2, 1, 1))
    mean[1, 0] = 2
    covariance[:, 0, 0] = 1e-6
    prior = ShapePrior(mean, covariance)
    poses = fit_pose(keypoints, wavy, camera, shape_prior=prior).poses
    distances = [np.linalg.norm(x[:, :3, 3], axis=-1) for x in (poses.T_cam_head, T)]
    np.testing.assert_allclose(
        distances[0] / distances[1], [1, 1 + 2 * wavy.size_sigma], rtol=0.01
    )


def test_one_hopeless_face_leaves_the_others_bit_identical(wavy, rng):
    camera = make_camera('rational_8')
    T = random_poses(4, camera, rng, distance_m=(0.5, 2))
    good = observe(wavy.xyz_head, T, camera, noise_px=1, rng=rng)
    hopeless = replace(good, uv=good.uv.copy())
    hopeless.uv[2] = np.nan
    alone = fit_pose(good, wavy, camera).poses
    result = fit_pose(hopeless, wavy, camera)
    assert result.poses.failed.tolist() == [False, False, True, False]
    assert result.stop[2] == StopReason.TOO_FEW_KEYPOINTS
    keep = np.array([0, 1, 3])
    for field in fields(alone):
        value, expected = getattr(result.poses, field.name), getattr(alone, field.name)
        assert np.array_equal(value[keep], expected[keep]), field.name


def test_threads_change_nothing(wavy, rng):
    camera = make_camera()
    T = random_poses(7, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, rng=rng)
    alone, together = (fit_pose(keypoints, wavy, camera, threads=n).poses for n in (1, 3))
    assert np.array_equal(together.T_cam_head, alone.T_cam_head)
    assert np.array_equal(together.covariance, alone.covariance)


def test_keypoints_of_any_layout_and_type(wavy, rng):
    camera = make_camera()
    T = random_poses(2, camera, rng, distance_m=(0.5, 2), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, rng=rng)
    uv = np.asfortranarray(keypoints.uv.astype(np.float32))[::-1]
    cov_uv = np.broadcast_to(np.eye(2, dtype=np.float32), (2, 468, 2, 2))
    poses = fit_pose(Keypoints(uv, cov_uv, keypoints.presence), wavy, camera).poses
    expected = fit_pose(keypoints, wavy, camera).poses
    assert_poses_close(poses.T_cam_head[::-1], expected.T_cam_head, max_deg=1e-3, max_mm=1e-2)


@pytest.mark.parametrize(
    'damage',
    [
        lambda uv, cov: (uv * np.nan, cov),
        lambda uv, cov: (uv, cov * np.inf),
        lambda uv, cov: (uv, cov * 0),
        lambda uv, cov: (uv, np.where((np.arange(468) < 5)[:, None, None], cov, np.inf)),
        lambda uv, cov: (uv + 1e9, cov),
        lambda uv, cov: (uv * np.inf, cov),
    ],
    ids=['nan', 'no weight', 'zero sigma', 'five keypoints', 'past the lens', 'infinite'],
)
@pytest.mark.filterwarnings('ignore:invalid value')
def test_hopeless_keypoints_fail_with_a_reason(damage, wavy, rng):
    camera = make_camera('plumb_bob_5')
    keypoints = observe(wavy.xyz_head, random_poses(2, camera, rng), camera)
    uv, cov_uv = damage(keypoints.uv, keypoints.cov_uv)
    result = fit_pose(Keypoints(uv, cov_uv, keypoints.presence), wavy, camera)
    assert result.poses.failed.all()
    assert (result.stop == StopReason.TOO_FEW_KEYPOINTS).all()
    assert np.array_equal(result.poses.T_cam_head, np.tile(np.eye(4), (2, 1, 1)))
    assert np.isinf(result.poses.covariance).all()
    assert not has_nan(result.poses)


@pytest.mark.parametrize('name', ['none', 'equidistant'])
def test_all_keypoints_on_one_pixel_give_no_nan(name, wavy, rng):
    camera = make_camera(name)
    keypoints = observe(wavy.xyz_head, random_poses(1, camera, rng), camera)
    result = fit_pose(replace(keypoints, uv=0 * keypoints.uv + 300), wavy, camera)
    assert not has_nan(result.poses)


def test_a_face_seen_in_a_mirror_fails_or_fits_badly_but_is_finite(rigid, rng):
    """No rotation explains a mirrored face, and no pose behind the camera is ever reported."""
    camera = make_camera()
    T = random_poses(20, camera, rng, distance_m=(0.3, 0.5), yaw_deg=30)
    xyz_cam = rotations.apply(T, rigid.xyz_head)
    keypoints = observe(rigid.xyz_head, T, camera)
    behind = replace(keypoints, uv=camera.project(xyz_cam * [-1, -1, 1]).uv)
    poses = fit_pose(behind, rigid, camera).poses
    assert ((poses.T_cam_head[:, 2, 3] > 0) | poses.failed).all()
    assert not has_nan(poses)


def test_a_head_beside_a_fisheye_camera_is_no_failure(rigid):
    """Its z is negative, and a fisheye sees it."""
    K = [300.0, 0, 611.3, 0, 300.0, 598.7, 0, 0, 1]
    camera = Camera.from_K(K, 1200, 1200, (0, 0, 0, 0), 'equidistant')
    R = rotations.exp([0, 1.8, 0]) @ [[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]
    T = rotations.from_rt(R, R[:, 0] * -0.8)[None]
    assert T[0, 2, 3] < 0
    result = fit_pose(observe(rigid.xyz_head, T, camera), rigid, camera)
    assert not result.poses.failed.any()
    assert_poses_close(result.poses.T_cam_head, T, max_deg=1e-3, max_mm=1e-2)


def test_no_faces(wavy):
    empty = observe(wavy.xyz_head, np.zeros((0, 4, 4)), make_camera())
    poses = fit_pose(empty, wavy, make_camera()).poses
    modes = len(wavy.shape_names)
    assert poses.T_cam_head.shape == (0, 4, 4)
    assert poses.covariance.shape == (0, 6, 6)
    assert poses.pose_of_shape.shape == (0, 6, modes)
    assert poses.shape_covariance.shape == (0, modes, modes)
    assert len(poses) == 0


def test_five_hundred_faces(wavy, rng):
    camera = make_camera('plumb_bob_5')
    T = random_poses(500, camera, rng, distance_m=(0.5, 3), yaw_deg=60)
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, rng=rng)
    poses = fit_pose(keypoints, wavy, camera).poses
    assert not poses.failed.any()
    assert np.median(rotation_error_deg(poses.T_cam_head, T)) < 1
