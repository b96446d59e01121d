# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stages of the fit, one at a time, of the first of some faces."""

import numpy as np

from face_pose_ros import _core
from face_pose_ros.options import DepthOptions, PoseOptions
from face_pose_ros.pose.fit import _problem


def stages(model, camera, keypoints, options=None):
    problem = _problem(model, options or PoseOptions(), DepthOptions())
    return _core.PoseStages(problem, camera.lens, keypoints.uv[0], keypoints.cov_uv[0])


def system(model, camera, keypoints, T, c, kernel='none', information=1.0):
    """Cost, H (D, D) and g (D,) at T (4, 4) and modes c (M,)."""
    independent = information * len(model.xyz_head)
    options = PoseOptions(kernel=kernel, independent_keypoints=independent)
    face = stages(model, camera, keypoints, options)
    value, H, g = face.linearise(T, np.r_[0.0, c])
    assert not H[6].any()  # keypoints tell nothing of the size
    return value, np.delete(np.delete(H, 6, 0), 6, 1), np.delete(g, 6)


def lowered(model, camera, keypoints, T, max_iterations):
    """Cost after so many steps from T (4, 4) and the mean shape."""
    options = PoseOptions(
        kernel='none', independent_keypoints=1e9, step_tolerance=1e-8, cost_tolerance=1e-10
    )
    return stages(model, camera, keypoints, options).minimise(T, max_iterations)


def closed_form(model, camera, keypoints):
    """Two poses (2, 4, 4)."""
    poses = np.zeros((2, 4, 4))
    poses[:, 3, 3] = 1
    poses[:, :3] = stages(model, camera, keypoints).closed_form()
    return poses
