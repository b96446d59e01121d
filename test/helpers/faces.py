# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faces as the estimator reports them, without an image."""

import numpy as np

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.results import FacePose, Fit
from helpers.heads import frontal

MODEL = deformable_face()


def head_pose(xyz, rotvec=(0.0, 0.0, 0.0)) -> np.ndarray:
    """(4, 4): a head at xyz [m], turned by rotvec [rad] from looking at the camera."""
    return frontal(np.asarray(xyz, dtype=float), rotvec)


def make_face(
    camera: Camera,
    T_cam_head: np.ndarray,
    face_id: str = 'f00001',
    number: int = 1,
    shape: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
) -> FacePose:
    """A face whose keypoints lie where the pose and the shape put them."""
    count = len(MODEL.shape_names)
    shape = np.zeros(count) if shape is None else shape
    covariance = (
        np.diag([1e-6, 4e-6, 1e-3, 1e-3, 1e-3, 1e-3]) if covariance is None else covariance
    )
    xyz_head = MODEL.points(shape[None])[0]
    uv = camera.project(xyz_head @ T_cam_head[:3, :3].T + T_cam_head[:3, 3]).uv
    uv = np.vstack([uv, np.repeat(uv[:1], 10, 0)])  # the irises, which no test uses
    return FacePose(
        T_cam_head=T_cam_head,
        covariance=covariance,
        keypoints_uv=uv,
        keypoints_sigma_px=np.ones(478),
        box_xyxy=np.concatenate([uv.min(0), uv.max(0)]),
        score=1.0,
        shape=shape,
        shape_covariance=np.eye(count),
        fit=Fit(covariance, np.zeros((6, count)), ''),
        id=face_id,
        number=number,
    )
