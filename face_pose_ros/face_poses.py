# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints and fitted poses -> FacePose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import EYELIDS
from face_pose_ros.keypoints.predictor import FACE, FACE_MESH_INDEX
from face_pose_ros.pose.face_model import FaceModel, deformable_face
from face_pose_ros.results import (
    DepthEvidence,
    FacePose,
    Faces,
    Fit,
    HeadPoses,
    Keypoints,
    Shape,
    bounds_xyxy,
)

Array = NDArray[np.float64]


def bounds_of_faces(keypoints: Keypoints) -> Array:
    """Bounding boxes (N, 4) px of the semantic keypoints of N faces, without ears and skull."""
    return bounds_xyxy(keypoints.uv[:, FACE])


def face_poses(
    keypoints: Keypoints,
    poses: HeadPoses,
    model: FaceModel,
    camera: Camera,
    prior_of: Sequence[str],
    expected_size: Array | None = None,
) -> list[FacePose]:
    """Results of all faces whose fit has not failed.

    Args:
        keypoints: Semantic keypoints of N faces.
        poses: Poses and shapes fitted to them.
        model: Model of Face Mesh's points, with the same shape coefficients.
        camera: Camera of the image in which the keypoints were measured.
        prior_of: N track ids, see `Fit.shape_prior_of`.
        expected_size: (N,) size coefficients of the priors; only with a depth image.
    """
    uv, sigma_px, boxes = _surface(model).seen(
        poses.T_cam_head, poses.shape, keypoints.cov_uv, camera.lens
    )
    scores = keypoints.presence.tolist()
    return [
        FacePose(
            poses.T_cam_head[i],
            poses.covariance[i],
            uv[i],
            sigma_px[i],
            boxes[i],
            scores[i],
            poses.shape[i],
            poses.shape_covariance[i],
            Fit(poses.covariance_given_shape[i], poses.pose_of_shape[i], prior_of[i]),
            depth=None
            if expected_size is None
            else _evidence(poses.depth[i], float(expected_size[i]), model.size_sigma),
        )
        for i, failed in enumerate(poses.failed.tolist())
        if not failed
    ]


def _evidence(row: Array, expected_size: float, size_sigma: float) -> DepthEvidence:
    visible, measured, agreeing, ratio = row.tolist()
    size = ratio * (1 + size_sigma * expected_size)
    coefficient = (size - 1) / size_sigma if size_sigma > 0 else 0.0
    return DepthEvidence(int(visible), int(measured), int(agreeing), ratio, coefficient)


def coarse_poses(
    faces: Faces, model: FaceModel, camera: Camera, population: Shape
) -> list[FacePose]:
    """Results with the detector's poses, the mean face and infinite keypoint sigma.

    Args:
        faces: N detected faces with coarse poses.
        model: Model of Face Mesh's points.
        camera: The image's camera.
        population: Prior of the shape of an unknown person.
    """
    if faces.coarse is None or len(faces) == 0:
        return []
    T, covariance = faces.coarse.T_cam_head, faces.coarse.covariance
    mean_face = np.zeros((len(T), len(model.shape_names)))
    uv, sigma_px, boxes = _surface(model).seen(T, mean_face, None, camera.lens)
    return [
        FacePose(
            T_cam_head=T[i],
            covariance=covariance[i],
            keypoints_uv=uv[i],
            keypoints_sigma_px=sigma_px[i],
            box_xyxy=boxes[i],
            score=float(faces.scores[i]),
            shape=population.mean.copy(),
            shape_covariance=population.covariance.copy(),
            fit=Fit(covariance[i].copy(), np.zeros((6, len(population.mean))), ''),
        )
        for i in range(len(faces))
    ]


@cache
def _surface(model: FaceModel) -> _core.Surface:
    """Face Mesh's 478 points: 468 of the model's surface, and five of each iris."""
    return _core.Surface(
        model.size_sigma,
        model.xyz_head.T,
        model.modes.transpose(0, 2, 1),
        np.array(EYELIDS),
        _nearest_keypoints(),
    )


@cache
def _nearest_keypoints() -> NDArray[np.intp]:
    """(478,) index of the face keypoint nearest to each Face Mesh point, on the mean face."""
    xyz_head = deformable_face().xyz_head
    irises = [np.repeat(xyz_head[list(eye)].mean(0, keepdims=True), 5, axis=0) for eye in EYELIDS]
    off = np.concatenate([xyz_head, *irises])[:, None] - xyz_head[FACE_MESH_INDEX]
    return np.linalg.norm(off, axis=-1).argmin(1)
