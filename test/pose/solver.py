# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Doors to functions that compiled code alone calls."""

import numpy as np

from face_pose_ros.geometry.jit import compiled
from face_pose_ros.pose.fit import _points
from face_pose_ros.pose.lm import (
    Cost,
    Prior,
    Tolerances,
    evaluate,
    linearise,
    measure,
    minimise,
    no_ranges,
    weigh_visible,
    workspace,
)
from face_pose_ros.pose.pnp import sample_order, solve_pnp


def system(model, camera, keypoints, T, c, kernel=0, scale=3.0, information=1.0):
    """Cost, H (D, D) and g (D,) of the first of the faces at T (4, 4) and modes c (M,)."""
    C = len(model.shape_names)
    prior = Prior(np.zeros(C), np.eye(C))
    cost = Cost(kernel, float(scale), float(information))
    uv, cov_uv = keypoints.uv[0].copy(), keypoints.cov_uv[0].copy()
    T, c = np.ascontiguousarray(T[:3]), np.r_[0.0, c]
    value, H, g = _system(uv, cov_uv, camera.numba_lens, _points(model), prior, cost, T, c)
    assert not H[6].any()  # keypoints tell nothing of the size
    return value, np.delete(np.delete(H, 6, 0), 6, 1), np.delete(g, 6)


def lowered(model, camera, keypoints, T, max_iterations):
    """Cost of the first of the faces after so many steps from T (4, 4) and the mean shape."""
    C = len(model.shape_names)
    prior, cost = Prior(np.zeros(C), np.eye(C)), Cost(0, 3.0, 1.0)
    uv, cov_uv = keypoints.uv[0].copy(), keypoints.cov_uv[0].copy()
    T, tolerances = T[:3].copy(), Tolerances(max_iterations, 1e-8, 1e-10)
    return _lowered(uv, cov_uv, camera.numba_lens, _points(model), prior, cost, T, tolerances)


def whitening(camera, keypoints):
    """A (2, 3, K) and weights (K,) of the first of the faces."""
    return _whitening(keypoints.uv[0].copy(), keypoints.cov_uv[0].copy(), camera.numba_lens)


def seen(model, camera, keypoints, T):
    """A (2, 3, K) where the head at T (4, 4) hides keypoints."""
    uv, cov_uv = keypoints.uv[0].copy(), keypoints.cov_uv[0].copy()
    return _seen(uv, cov_uv, camera.numba_lens, _points(model).normals, np.ascontiguousarray(T[:3]))


def closed_form(model, camera, keypoints):
    """Two poses (2, 4, 4) of the first of the faces."""
    poses = np.zeros((2, 4, 4))
    poses[:, 3, 3] = 1
    order = sample_order(len(model.xyz_head))
    uv, cov_uv = keypoints.uv[0].copy(), keypoints.cov_uv[0].copy()
    poses[:, :3] = _closed_form(_points(model).xyz_head, uv, cov_uv, camera.numba_lens, order)
    return poses


@compiled
def _system(uv, cov_uv, lens, points, prior, cost, T, c):
    measured = measure(uv, cov_uv, lens)
    work, ranges = workspace(len(c), len(uv), 0), no_ranges(points)
    value = evaluate(T, c, measured, points, ranges, prior, cost, work)
    linearise(T, c, measured, points, ranges, prior, cost, work)
    return value, work.H, work.g


@compiled
def _lowered(uv, cov_uv, lens, points, prior, cost, T, tolerances):
    c, work = np.zeros(len(prior.mean)), workspace(len(prior.mean), len(uv), 0)
    measured, ranges = measure(uv, cov_uv, lens), no_ranges(points)
    return minimise(T, c, measured, points, ranges, prior, cost, tolerances, 1.0, work).cost


@compiled
def _whitening(uv, cov_uv, lens):
    measured = measure(uv, cov_uv, lens)
    return measured.A, measured.weight


@compiled
def _seen(uv, cov_uv, lens, normals, T):
    return weigh_visible(measure(uv, cov_uv, lens), normals, T).A


@compiled
def _closed_form(xyz_head, uv, cov_uv, lens, order):
    poses = np.empty((2, 3, 4))
    solve_pnp(xyz_head, measure(uv, cov_uv, lens), order, poses)
    return poses
