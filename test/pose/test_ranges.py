# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A depth image in the fit: exact where it is, robust, and never worse than none."""

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.cameras import make_camera
from helpers.depth import face_depth
from helpers.heads import frontal, observe, random_poses

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.options import DepthOptions, PoseOptions
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.pose.fit import ShapePrior, fit_pose

FACE = deformable_face()
SIZES = [-4.0, -2.5, 0.0, 3.0]  # a child's head first
POSES = [
    frontal((0.11, -0.07, 0.83), (0.1, 0.4, -0.2)),
    frontal((-0.2, 0.12, 1.4), (-0.2, -0.6, 0.1)),
    frontal((0.03, 0.05, 0.52), (0.15, 0.1, 0.3)),
    frontal((0.4, -0.1, 2.3), (0.0, 0.7, -0.1)),
]


def shape_of(size, rng):
    shape = 0.7 * rng.standard_normal(len(FACE.shape_names))
    shape[0] = size
    return shape


def relative_error(poses, T):
    distance = np.linalg.norm(T[:3, 3])
    return np.linalg.norm(poses.T_cam_head[0, :3, 3]) / distance - 1


@pytest.mark.parametrize(('size', 'T'), list(zip(SIZES, POSES, strict=True)))
@pytest.mark.parametrize('unit', [np.uint16, np.float32])
def test_distance_and_size_are_those_of_the_depth_image(size, T, unit, rng):
    camera, shape = make_camera('plumb_bob_5'), shape_of(size, rng)
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    z = face_depth(FACE, shape, T, camera)
    z = np.round(1000 * z).astype(np.uint16) if unit == np.uint16 else z
    poses = fit_pose(keypoints, FACE, camera, depth=DepthImage(z, camera)).poses
    assert abs(relative_error(poses, T)) < 0.005
    assert poses.depth[0, 2] > 0.8 * poses.depth[0, 1] > 12
    if abs(size) > 1:
        without = fit_pose(keypoints, FACE, camera).poses
        assert abs(relative_error(without, T)) > 0.05
    assert poses.covariance[0, 2, 2] < 0.02**2


def test_a_depth_camera_beside_the_picture_is_registered(rng):
    """Other intrinsics, other resolution, turned, and 60 mm to the side."""
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(-3.0, rng), POSES[2]
    depth_camera = make_camera('none').resize(424, 240)
    T_cam_depth = rotations.from_rt(rotations.exp([0.02, -0.05, 0.03]), [-0.06, 0.01, 0.004])
    z = face_depth(FACE, shape, np.linalg.inv(T_cam_depth) @ T, depth_camera)
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    depth = DepthImage(z, depth_camera, T_cam_depth)
    assert abs(relative_error(fit_pose(keypoints, FACE, camera, depth=depth).poses, T)) < 0.005
    unregistered = fit_pose(keypoints, FACE, camera, depth=DepthImage(z, depth_camera)).poses
    assert abs(relative_error(unregistered, T)) > 0.01


def test_holes_a_hand_and_flying_pixels_move_nothing(rng):
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(1.0, rng), POSES[0]
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    z = face_depth(FACE, shape, T, camera)
    rows, columns = np.nonzero(z)
    hand = columns < np.quantile(columns, 0.3)
    z[rows[hand], columns[hand]] -= 0.07
    flying = rng.uniform(size=len(rows)) < 0.1
    z[rows[flying], columns[flying]] += rng.uniform(0, 1, flying.sum()).astype(np.float32)
    z[rng.uniform(size=z.shape) < 0.1] = np.nan
    z[z == 0] = 2.7  # a wall behind
    poses = fit_pose(keypoints, FACE, camera, depth=DepthImage(z, camera)).poses
    assert abs(relative_error(poses, T)) < 0.01


def test_the_rotation_of_a_child_is_as_certain_as_an_adults(rng):
    """The prior of adults does not pull the keypoints off a size that the ranges agree on."""
    camera, T, sigma = make_camera('plumb_bob_5'), POSES[0], []
    for size in (0.0, -4.0):
        shape = np.zeros(len(FACE.shape_names))
        shape[0] = size
        keypoints = observe(FACE.points(shape[None]), T[None], camera)
        depth = DepthImage(face_depth(FACE, shape, T, camera), camera)
        options = PoseOptions(independent_keypoints=2.55)
        poses = fit_pose(keypoints, FACE, camera, options, depth=depth).poses
        sigma.append(np.sqrt(np.trace(poses.covariance[0, 3:, 3:])))
        assert poses.shape[0, 0] == pytest.approx(size, abs=0.15)
    assert sigma[1] < 1.2 * sigma[0]


def test_a_wall_behind_most_of_a_face_is_no_larger_face(rng):
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(1.0, rng), POSES[3]
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    z = face_depth(FACE, shape, T, camera)
    rows, columns = np.nonzero(z)
    wall = columns < np.quantile(columns, 0.55)
    z[rows[wall], columns[wall]] = 1.45 * T[2, 3]
    poses = fit_pose(keypoints, FACE, camera, depth=DepthImage(z, camera)).poses
    without = fit_pose(keypoints, FACE, camera).poses
    assert abs(relative_error(poses, T)) < abs(relative_error(without, T)) + 0.005
    assert poses.depth[0, 3] < 1.2


@pytest.mark.parametrize('far', [2.7, 300.0, 1000.0, 65504.0])  # the last: simulators' nothing
def test_what_lies_far_behind_a_face_says_nothing_of_it(far, rng):
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(-4.0, rng), POSES[0]
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    z = face_depth(FACE, shape, T, camera)
    rows, columns = np.nonzero(z)
    beside = columns < np.quantile(columns, 0.1)
    z[rows[beside], columns[beside]] = 0
    poses = fit_pose(
        keypoints, FACE, camera, depth=DepthImage(np.where(z > 0, z, np.float32(far)), camera)
    ).poses
    assert abs(relative_error(poses, T)) < 0.01
    assert poses.depth[0, 2] < poses.depth[0, 1]


def test_a_distance_is_less_certain_where_much_of_the_face_is_covered(rng):
    """What covers a face may agree with it in part: hair lies on a forehead as a forehead does."""
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(1.0, rng), POSES[0]
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    z = face_depth(FACE, shape, T, camera)
    rows, columns = np.nonzero(z)
    sigma = []
    for covered in (0.0, 0.15, 0.4):
        seen = z.copy()
        hand = columns < np.quantile(columns, covered)
        seen[rows[hand], columns[hand]] -= 0.07
        poses = fit_pose(keypoints, FACE, camera, depth=DepthImage(seen, camera)).poses
        assert abs(relative_error(poses, T)) < 0.01
        sigma.append(np.sqrt(poses.covariance[0, 2, 2]))
    assert sigma[1] > 1.3 * sigma[0]
    assert sigma[2] > 2.5 * sigma[0]


def test_the_shape_of_a_face_is_that_of_its_surface(rng):
    """Keypoints that hardly tell it; all ranges together may still be off by millimetres."""
    camera, T = make_camera('plumb_bob_5'), POSES[0]
    error, unknown = [], []
    for _ in range(8):
        shape = shape_of(-1.5, rng)
        keypoints = observe(FACE.points(shape[None]), T[None], camera, 3, 3, rng)
        z = face_depth(FACE, shape, T, camera)
        z = np.where(z > 0, z + np.float32(rng.normal(0, 0.002)), 0)
        poses = fit_pose(keypoints, FACE, camera, depth=DepthImage(z, camera)).poses
        error.append((poses.shape[0] - shape)[1:4])
        unknown.append(shape[1:4])
    assert np.square(error).mean() < 0.75 * np.square(unknown).mean()


def test_keypoints_of_a_face_count_more_if_nothing_covers_it(rng):
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(1.0, rng), POSES[0]
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    z = face_depth(FACE, shape, T, camera)
    rows, columns = np.nonzero(z)
    sigma = [np.sqrt(np.trace(fit_pose(keypoints, FACE, camera).poses.covariance[0, 3:, 3:]))]
    for covered in (0.0, 0.4):
        seen = z.copy()
        hand = columns < np.quantile(columns, covered)
        seen[rows[hand], columns[hand]] -= 0.07
        poses = fit_pose(keypoints, FACE, camera, depth=DepthImage(seen, camera)).poses
        sigma.append(np.sqrt(np.trace(poses.covariance[0, 3:, 3:])))
    assert sigma[1] < 0.75 * sigma[0]
    assert 1.2 * sigma[1] < sigma[2] < sigma[0]


@pytest.mark.parametrize(
    ('spoil', 'size_ratio'),
    [
        (lambda z: 1000 * z, 1000),
        (lambda z: 0.001 * z, 0.001),
        (lambda z: np.where(z > 0, np.float32(3.9), 0), None),
        (lambda z: np.zeros_like(z), None),
        (lambda z: np.full_like(z, np.nan), None),
        (lambda z: np.full_like(z, np.inf), None),
    ],
    ids=['millimetres for metres', 'metres for millimetres', 'a wall', 'zero', 'nan', 'inf'],
)
def test_depth_that_is_not_the_faces_leaves_the_pose_as_without(spoil, size_ratio, rng):
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(0.5, rng), POSES[0]
    keypoints = observe(FACE.points(shape[None]), T[None], camera)
    z = spoil(face_depth(FACE, shape, T, camera))
    poses = fit_pose(keypoints, FACE, camera, depth=DepthImage(z, camera)).poses
    without = fit_pose(keypoints, FACE, camera).poses
    np.testing.assert_array_equal(poses.T_cam_head, without.T_cam_head)
    np.testing.assert_array_equal(poses.covariance, without.covariance)
    assert poses.depth[0, 2] == 0
    if size_ratio:
        assert poses.depth[0, 3] == pytest.approx(size_ratio, rel=0.1)


def test_errors_are_as_large_as_the_covariance_says(rng):
    """Ranges with the noise they state, keypoints with that of uncovered faces, any shape."""
    camera, count = make_camera('plumb_bob_5'), 120
    T = random_poses(count, camera, rng, distance_m=(0.6, 2), yaw_deg=40)
    shapes = rng.standard_normal((count, len(FACE.shape_names)))
    options = PoseOptions(independent_keypoints=1e9, visibility=False)
    noise = DepthOptions(noise_per_m=0.003, bias_per_m=0.002)
    nees = []
    for T_true, shape in zip(T, shapes, strict=True):
        points = FACE.points(shape[None])
        keypoints = observe(points, T_true[None], camera, noise_px=0.85, sigma_px=1.5, rng=rng)
        z = face_depth(FACE, shape, T_true, camera)
        common = rng.normal(0, np.hypot(0.001, 0.002 * z.max() ** 2))
        z = np.where(z > 0, z + common + 0.003 * z * z * rng.standard_normal(z.shape), 0)
        depth = DepthImage(z.astype(np.float32), camera)
        poses = fit_pose(keypoints, FACE, camera, options, depth=depth, depth_options=noise).poses
        error = rotations.difference(T_true[None], poses.T_cam_head)[0]
        nees.append(error @ np.linalg.solve(poses.covariance[0], error))
    assert 4.5 < np.mean(nees) < 7.5  # its own spread is 0.3
    assert 0.9 < np.mean(np.array(nees) < 12.592) <= 0.99


def test_parts_of_the_covariance_belong_together(rng):
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(-1.0, rng), POSES[0]
    keypoints = observe(FACE.points(shape[None]), T[None], camera, noise_px=1, rng=rng)
    depth = DepthImage(face_depth(FACE, shape, T, camera), camera)
    poses = fit_pose(keypoints, FACE, camera, depth=depth).poses
    G, of_shape = poses.pose_of_shape, poses.shape_covariance
    np.testing.assert_allclose(
        poses.covariance,
        poses.covariance_given_shape + G @ of_shape @ G.swapaxes(-1, -2),
        rtol=1e-9,
        atol=1e-15,
    )
    assert (np.linalg.eigvalsh(poses.covariance) > 0).all()
    assert (np.linalg.eigvalsh(of_shape) > 0).all()


def test_a_size_once_measured_moves_with_the_shape_it_was_measured_with(rng):
    """Without a depth image, with a prior that connects the size with other coefficients."""
    camera, shape, T = make_camera('plumb_bob_5'), shape_of(2.0, rng), POSES[0]
    keypoints = observe(FACE.points(shape[None]), T[None], camera, noise_px=0.5, rng=rng)
    depth = DepthImage(face_depth(FACE, shape, T, camera), camera)
    options = PoseOptions(independent_keypoints=6)
    first = fit_pose(keypoints, FACE, camera, options, depth=depth).poses
    known = ShapePrior(first.shape, first.shape_covariance)
    assert np.abs(first.shape_covariance[0, 0, 1:]).max() > 1e-3
    later = fit_pose(keypoints, FACE, camera, options, shape_prior=known).poses
    assert abs(relative_error(later, T)) < 0.01
    assert_poses_close(later.T_cam_head, T[None], max_deg=2, max_mm=15)
