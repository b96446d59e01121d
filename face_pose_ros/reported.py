# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is reported of each face: measurements and fitted poses -> FacePose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import EYELIDS
from face_pose_ros.keypoints.semantic import IS_FACE
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.fusion import FittedReadings
from face_pose_ros.results import (
    DepthEvidence,
    FacePose,
    Faces,
    Fit,
    Keypoints,
    Readings,
    bounds_xyxy,
)
from face_pose_ros.tracking.shape_memory import Shape

Array = NDArray[np.float64]


def bounds_of_readings(readings: Readings) -> Array:
    """Bounding boxes (N, 4) px of the faces, by the network that is more certain of each."""
    of_mesh = bounds_xyxy(readings.mesh.uv)
    by_head = readings.head.presence > readings.mesh.presence
    if not by_head.any():
        return of_mesh
    return np.where(by_head[:, None], bounds_xyxy(readings.head.uv[:, IS_FACE]), of_mesh)


def face_poses(
    readings: Readings,
    fitted: FittedReadings,
    model: FaceModel,
    camera: Camera,
    prior_of: Sequence[str],
    with_depth: bool = False,
) -> list[FacePose]:
    """The faces whose pose could be found.

    Args:
        readings: N faces.
        fitted: Their poses.
        model: Of Face Mesh's points.
        camera: The camera in whose pixels the readings are.
        prior_of: N ids, see `Fit.shape_prior_of`.
        with_depth: Whether there was a depth image.
    """
    keypoints, poses = _reported_keypoints(readings, fitted, model, camera), fitted.poses
    boxes, sigma_px = bounds_xyxy(keypoints.uv), keypoints.sigma_px
    return [
        FacePose(
            T_cam_head=poses.T_cam_head[i],
            covariance=poses.covariance[i],
            keypoints_uv=keypoints.uv[i],
            keypoints_sigma_px=sigma_px[i],
            box_xyxy=boxes[i],
            score=float(keypoints.presence[i]),
            shape=poses.shape[i],
            shape_covariance=poses.shape_covariance[i],
            fit=Fit(poses.covariance_given_shape[i], poses.pose_of_shape[i], prior_of[i]),
            depth=_evidence(poses.depth[i]) if with_depth else None,
        )
        for i in range(len(poses))
        if not poses.failed[i]
    ]


def _evidence(row: Array) -> DepthEvidence:
    visible, measured, agreeing, size_ratio = row.tolist()
    return DepthEvidence(int(visible), int(measured), int(agreeing), size_ratio)


def coarse_poses(
    faces: Faces, model: FaceModel, camera: Camera, population: Shape
) -> list[FacePose]:
    """Faces with the detector's poses: nothing is measured of their keypoints and their shape.

    Args:
        faces: N proposals with coarse poses.
        model: Of Face Mesh's points; the mean face stands for everybody's.
        camera: The image's camera.
        population: What is known of the shape of an unknown person.
    """
    if faces.coarse is None or len(faces) == 0:
        return []
    T, covariance = faces.coarse.T_cam_head, faces.coarse.covariance
    uv = _with_irises(camera.project(rotations.apply(T, model.xyz_head)).uv)
    boxes = bounds_xyxy(uv)
    return [
        FacePose(
            T_cam_head=T[i],
            covariance=covariance[i],
            keypoints_uv=uv[i],
            keypoints_sigma_px=np.full(uv.shape[1], np.inf),
            box_xyxy=boxes[i],
            score=float(faces.scores[i]),
            shape=population.mean.copy(),
            shape_covariance=population.covariance.copy(),
            fit=Fit(covariance[i].copy(), np.zeros((6, len(population.mean))), ''),
        )
        for i in range(len(faces))
    ]


def _with_irises(uv: Array) -> Array:
    """(N, 478, 2) px of Face Mesh's (N, 468, 2): irises in the middle of their eyelids."""
    irises = [np.repeat(uv[:, list(eye)].mean(1, keepdims=True), 5, axis=1) for eye in EYELIDS]
    return np.concatenate([uv, *irises], 1)


def _reported_keypoints(
    readings: Readings, fitted: FittedReadings, model: FaceModel, camera: Camera
) -> Keypoints:
    """Face Mesh's points of N faces: as measured, or of the fitted face.

    The hourglass's keypoints are fewer: where it has the greater weight, the fitted face is
    projected, as uncertain as the measured points are on average.
    """
    rows = np.flatnonzero(fitted.head_share > 0.5)
    if len(rows) == 0:
        return readings.mesh
    poses, head = fitted.poses[rows], readings.head[rows]
    xyz_cam = rotations.apply(poses.T_cam_head, model.points(poses.shape))
    uv = _with_irises(camera.project(xyz_cam).uv)
    cov_uv = np.repeat(head.cov_uv.mean(1, keepdims=True), uv.shape[1], axis=1)
    return readings.mesh.replaced(rows, Keypoints(uv, cov_uv, head.presence))
