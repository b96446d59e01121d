# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers are those that were frozen: see golden/."""

import numpy as np
import pytest
from golden.answers import Answers, answers_of_this_build
from golden.frames import LENSES
from golden.keypoints import cases, load_answers

from face_pose_ros.geometry import rotations
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fit import ShapePrior, fit_pose
from face_pose_ros.results import Keypoints

MAX_RAD, MAX_M, MAX_RELATIVE_COVARIANCE = 1e-6, 1e-6, 1e-4
SAME_PX = 1e-9
# Inference in float32 rounds in another way on another processor and in another graph of the same
# network. Where the keypoints of the first face are not the same, poses are as near as these.
MAX_RAD_ELSEWHERE, MAX_M_ELSEWHERE, MAX_RELATIVE_ELSEWHERE = 1e-3, 2e-4, 5e-2


def apart(T_a, T_b):
    """Angles [rad] and distances [m] between poses (M, 4, 4)."""
    delta = rotations.difference(T_a, T_b)
    return np.linalg.norm(delta[:, 3:], axis=1), np.linalg.norm(delta[:, :3], axis=1)


def relative(a, b):
    """The largest difference of covariances (M, 6, 6), over the standard deviations."""
    sigma = np.sqrt(np.diagonal(b, axis1=-2, axis2=-1))
    return np.abs((a - b) / (sigma[:, :, None] * sigma[:, None])).max((-1, -2))


def test_the_solver_gives_the_same_poses_from_the_same_keypoints():
    models = {'face': deformable_face(), 'head': semantic_head()}
    cameras = {name: lens.camera() for name, lens in LENSES.items()}
    all_cases, found = list(cases()), []
    for case in all_cases:
        keypoints = Keypoints(case.uv[None], case.cov_uv[None], np.ones(1))
        prior = None
        if case.prior:
            mean, information = case.prior
            prior = ShapePrior(mean[None], np.linalg.inv(information)[None])
        found.append(
            fit_pose(
                keypoints,
                models[case.model],
                cameras[case.lens],
                PoseOptions(**case.options),
                None if case.T_init is None else case.T_init[None],
                prior,
            )
        )
    expected = load_answers()
    names = np.array([f'{case.name} of face {case.face}' for case in all_cases])
    assert [int(fit.stop[0]) for fit in found] == expected.stop.tolist()
    T = np.concatenate([fit.poses.T_cam_head for fit in found])
    angle, distance = apart(expected.T_cam_head, T)
    assert not (names[(angle > MAX_RAD) | (distance > MAX_M)]).tolist()
    covariance = np.concatenate([fit.poses.covariance for fit in found])
    off = relative(covariance, expected.covariance) > MAX_RELATIVE_COVARIANCE
    assert not names[off].tolist()
    shape = np.concatenate([fit.poses.shape for fit in found])
    np.testing.assert_allclose(shape, expected.shape, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def answers():
    return Answers.load().in_order(), answers_of_this_build().in_order()


@pytest.mark.slow
def test_the_images_are_the_same_bit_for_bit(answers):
    expected, found = answers
    different = np.nonzero(expected.checksum != found.checksum)[0]
    assert not different.tolist(), 'this OpenCV draws or decodes these frames differently'


@pytest.mark.slow
def test_images_give_the_same_people_and_poses(answers):
    expected, found = answers
    scenes = expected.scene[expected.frame]
    assert found.frame.tolist() == expected.frame.tolist()
    assert found.id.tolist() == expected.id.tolist()
    networks_px = np.abs(found.probe_uv - expected.probe_uv).max()
    same = networks_px < SAME_PX
    max_rad = MAX_RAD if same else MAX_RAD_ELSEWHERE
    max_m = MAX_M if same else MAX_M_ELSEWHERE
    last_row = np.tile([[[0.0, 0, 0, 1]]], (len(scenes), 1, 1))
    T, T_expected = (np.concatenate([x.T_cam_head, last_row], 1) for x in (found, expected))
    angle, distance = apart(T_expected, T)
    off = (angle > max_rad) | (distance > max_m)
    worst = f'{angle.max():.1e} rad, {1e3 * distance.max():.1e} mm, networks {networks_px:.1e} px'
    places = [f'{s} {f}' for s, f in zip(scenes[off], found.frame[off], strict=True)]
    assert not places, worst
    upper = np.triu_indices(6)
    sigma = np.sqrt(expected.covariance[:, upper[0] == upper[1]])
    scale = sigma[:, upper[0]] * sigma[:, upper[1]]
    worst = np.abs((found.covariance - expected.covariance) / scale).max()
    assert worst < (MAX_RELATIVE_COVARIANCE if same else MAX_RELATIVE_ELSEWHERE)
    np.testing.assert_allclose(found.shape, expected.shape, rtol=0, atol=1e-4 if same else 5e-2)
