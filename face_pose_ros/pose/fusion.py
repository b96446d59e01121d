# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses of the same faces from two networks' keypoints, and one pose from both."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import linalg, rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.depth import DepthImage
from face_pose_ros.options import DepthOptions, PoseOptions
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.fit import ShapePrior, fit_pose
from face_pose_ros.results import HeadPoses, Keypoints, Readings

Array = NDArray[np.float64]

# Turn of the head from the camera [deg] up to which Face Mesh alone counts, and from which the
# hourglass alone does. Chosen on rendered heads (training/compare_networks.py --heads) with an
# earlier hourglass; the present one is better alone there, but a second look for every face.
MESH_ONLY_DEG = 30.0
HEAD_ONLY_DEG = 60.0


@dataclass(frozen=True, eq=False)
class FittedReadings:
    """Poses of N faces, and where they come from."""

    poses: HeadPoses
    head_share: Array  # (N,) in [0, 1], weight of the hourglass's pose; the rest is Face Mesh's


def turn_deg(T_cam_head: Array) -> Array:
    """(N,) [deg] between where the heads (N, 4, 4) point and the directions to the camera."""
    x, to_camera = T_cam_head[:, :3, 0], -T_cam_head[:, :3, 3]
    across = np.linalg.norm(np.cross(x, to_camera), axis=-1)
    return np.rad2deg(np.arctan2(across, (x * to_camera).sum(-1)))


def share_of_head(turn: Array) -> Array:
    """Weight in [0, 1] of the hourglass's pose at a turn [deg]."""
    return ((turn - MESH_ONLY_DEG) / (HEAD_ONLY_DEG - MESH_ONLY_DEG)).clip(0, 1)


def fit_readings(
    readings: Readings,
    face: FaceModel,
    head: FaceModel,
    camera: Camera,
    options: PoseOptions,
    independent_keypoints: float,
    min_presence: float,
    shape_prior: ShapePrior | None = None,
    threads: int | None = None,
    depth: DepthImage | None = None,
    depth_options: DepthOptions | None = None,
) -> FittedReadings:
    """One pose of each face from what was measured of it.

    Args:
        readings: N faces.
        face: Model of Face Mesh's points.
        head: Model of the semantic keypoints, with the same shape coefficients.
        camera: The camera in whose pixels the keypoints are.
        options: Of the fit to Face Mesh's points.
        independent_keypoints: The same of the fit to the semantic keypoints.
        min_presence: A network that is less sure of a face does not count.
        shape_prior: What is known of the N shapes; None is anybody's.
        threads: Number of faces solved at a time; None: one on each core.
        depth: Taken at the same time.
        depth_options: See `DepthOptions`.
    """
    same = shape_prior, threads, depth, depth_options
    # The hourglass says itself how well it sees each keypoint.
    head_options = replace(options, visibility=False, independent_keypoints=independent_keypoints)
    with_mesh = readings.mesh.presence >= min_presence
    with_head = readings.head.presence >= min_presence
    if not with_head.any():
        by_mesh = fit_pose(readings.mesh, face, camera, options, None, *same).poses
        return FittedReadings(by_mesh, np.zeros(len(readings)))
    by_head = _fit_some(readings.head, with_head, head, camera, head_options, *same)
    if not with_mesh.any():
        return FittedReadings(by_head, np.ones(len(readings)))
    by_mesh = _fit_some(readings.mesh, with_mesh, face, camera, options, *same)
    # The hourglass knows the turn of all heads, Face Mesh only where it is small.
    share = share_of_head(turn_deg(by_head.T_cam_head))
    share = np.where(by_mesh.failed, 1.0, np.where(by_head.failed, 0.0, share))
    share = share_by_depth(share, by_mesh, by_head)
    return FittedReadings(fuse(by_mesh, by_head, share), share)


def share_by_depth(share: Array, a: HeadPoses, b: HeadPoses) -> Array:
    """Weight (N,) of b; where a depth image agrees with one of the two alone, that one counts."""
    a_agrees, b_agrees = a.depth[:, 2] > 0, b.depth[:, 2] > 0
    return np.where(a_agrees == b_agrees, share, b_agrees.astype(float))


def _fit_some(
    keypoints: Keypoints,
    mask: NDArray[np.bool_],
    model: FaceModel,
    camera: Camera,
    options: PoseOptions,
    prior: ShapePrior | None,
    threads: int | None,
    depth: DepthImage | None,
    depth_options: DepthOptions | None,
) -> HeadPoses:
    """Fits of the faces in a mask (N,); the others are marked failed."""
    same = threads, depth, depth_options
    if mask.all():
        return fit_pose(keypoints, model, camera, options, None, prior, *same).poses
    some = prior and ShapePrior(prior.mean[mask], prior.information[mask])
    fitted = fit_pose(keypoints[mask], model, camera, options, None, some, *same).poses
    none: dict[str, Any] = {
        field.name: np.zeros((len(mask), *getattr(fitted, field.name).shape[1:]))
        for field in fields(fitted)
    }
    none |= {'T_cam_head': np.tile(np.eye(4), (len(mask), 1, 1)), 'failed': ~mask}
    return HeadPoses(**none).replaced(mask, fitted)


def fuse(a: HeadPoses, b: HeadPoses, share: Array) -> HeadPoses:
    """Covariance intersection of two estimates that were given the same shape prior.

    P^-1 = (1 - s) P_a^-1 + s P_b^-1 over pose and shape together (Julier and Uhlmann, "A
    non-divergent estimation algorithm in the presence of unknown correlations", 1997): both look
    at the same pixels, so their errors go together in a way that nobody knows.

    Args:
        a: N estimates.
        b: Of the same faces.
        share: (N,) in [0, 1], weight of b; 0 and 1 give a and b themselves.
    """
    only_b, both = share >= 1, (share > 0) & (share < 1)
    poses = a.replaced(only_b, b[only_b])
    return poses.replaced(both, _intersection(a[both], b[both], share[both]))


def _intersection(a: HeadPoses, b: HeadPoses, share: Array) -> HeadPoses:
    weighted = share[:, None, None] * linalg.inverse(_joint_covariance(b))
    of_a = linalg.inverse(_joint_covariance(a))
    P = linalg.inverse((1 - share[:, None, None]) * of_a + weighted)
    step = np.concatenate(
        [rotations.difference(a.T_cam_head, b.T_cam_head), b.shape - a.shape], -1
    )
    step = (P @ weighted @ step[..., None])[..., 0]
    T = a.T_cam_head.copy()
    T[:, :3, 3] += step[:, :3]
    T[:, :3, :3] = rotations.exp(step[:, 3:6]) @ T[:, :3, :3]
    covariance, shape_covariance = P[:, :6, :6], P[:, 6:, 6:]
    pose_of_shape = linalg.solve(shape_covariance, P[:, 6:, :6]).swapaxes(-1, -2)
    given_shape = covariance - pose_of_shape @ P[:, 6:, :6]
    return HeadPoses(
        T_cam_head=T,
        covariance=covariance,
        covariance_given_shape=0.5 * (given_shape + given_shape.swapaxes(-1, -2)),
        pose_of_shape=pose_of_shape,
        shape=a.shape + step[:, 6:],
        shape_covariance=shape_covariance,
        failed=a.failed | b.failed,
        depth=a.depth,
    )


def _joint_covariance(poses: HeadPoses) -> Array:
    """(N, 6 + C, 6 + C) of pose and shape."""
    cross = poses.pose_of_shape @ poses.shape_covariance
    return np.block([[poses.covariance, cross], [cross.swapaxes(-1, -2), poses.shape_covariance]])
