# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is reported of each face: keypoints and fitted poses -> FacePose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import EYELIDS
from face_pose_ros.keypoints.predictor import FACE_MESH_INDEX
from face_pose_ros.keypoints.semantic import IS_FACE
from face_pose_ros.pose.face_model import FaceModel, deformable_face
from face_pose_ros.results import (
    DepthEvidence,
    FacePose,
    Faces,
    Fit,
    HeadPoses,
    Keypoints,
    bounds_xyxy,
)
from face_pose_ros.tracking.shape_memory import Shape

Array = NDArray[np.float64]


def bounds_of_faces(keypoints: Keypoints) -> Array:
    """Bounding boxes (N, 4) px of the semantic keypoints of N faces, without ears and skull."""
    return bounds_xyxy(keypoints.uv[:, IS_FACE])


def face_poses(
    keypoints: Keypoints,
    poses: HeadPoses,
    model: FaceModel,
    camera: Camera,
    prior_of: Sequence[str],
    with_depth: bool = False,
) -> list[FacePose]:
    """The faces whose pose could be found.

    Args:
        keypoints: Semantic ones of N faces.
        poses: Fitted to them.
        model: Of Face Mesh's points, with the same shape coefficients.
        camera: The camera in whose pixels the keypoints are.
        prior_of: N ids, see `Fit.shape_prior_of`.
        with_depth: Whether there was a depth image.
    """
    rows = np.flatnonzero(~poses.failed)
    xyz_head = model.points(poses.shape[rows])
    uv = _with_irises(camera.project(rotations.apply(poses.T_cam_head[rows], xyz_head)).uv)
    boxes, sigma_px = bounds_xyxy(uv), keypoints.sigma_px[rows][:, _nearest_keypoints()]
    return [
        FacePose(
            T_cam_head=poses.T_cam_head[i],
            covariance=poses.covariance[i],
            keypoints_uv=uv[row],
            keypoints_sigma_px=sigma_px[row],
            box_xyxy=boxes[row],
            score=float(keypoints.presence[i]),
            shape=poses.shape[i],
            shape_covariance=poses.shape_covariance[i],
            fit=Fit(poses.covariance_given_shape[i], poses.pose_of_shape[i], prior_of[i]),
            depth=_evidence(poses.depth[i]) if with_depth else None,
        )
        for row, i in enumerate(rows)
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


@cache
def _nearest_keypoints() -> NDArray[np.intp]:
    """(478,) which face keypoint of the mean face is the nearest to each of Face Mesh's points."""
    xyz_head = deformable_face().xyz_head
    irises = [np.repeat(xyz_head[list(eye)].mean(0, keepdims=True), 5, axis=0) for eye in EYELIDS]
    off = np.concatenate([xyz_head, *irises])[:, None] - xyz_head[FACE_MESH_INDEX]
    return np.linalg.norm(off, axis=-1).argmin(1)
