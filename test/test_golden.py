"""Answers are those of commit cf47de0: see golden/."""

import numpy as np
from golden.frames import LENSES
from golden.keypoints import cases, load_answers

from face_pose_ros.geometry import rotations
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import deformable_face, semantic_head
from face_pose_ros.pose.fit import ShapePrior, fit_pose
from face_pose_ros.results import Keypoints

MAX_RAD, MAX_M, MAX_RELATIVE_COVARIANCE = 1e-6, 1e-6, 1e-4


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
    asked, found = list(cases()), []
    for case in asked:
        keypoints = Keypoints(case.uv[None], case.cov_uv[None], np.ones(1))
        prior = case.prior and ShapePrior(*(value[None] for value in case.prior))
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
    names = np.array([f'{case.name} of face {case.face}' for case in asked])
    assert [int(fit.stop[0]) for fit in found] == expected.stop.tolist()
    T = np.concatenate([fit.poses.T_cam_head for fit in found])
    angle, distance = apart(expected.T_cam_head, T)
    assert not (names[(angle > MAX_RAD) | (distance > MAX_M)]).tolist()
    covariance = np.concatenate([fit.poses.covariance for fit in found])
    off = relative(covariance, expected.covariance) > MAX_RELATIVE_COVARIANCE
    assert not names[off].tolist()
    shape = np.concatenate([fit.poses.shape for fit in found])
    np.testing.assert_allclose(shape, expected.shape, rtol=0, atol=1e-5)
