"""What is said of one face, as plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from face_pose_ros.geometry import se3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import EYELIDS
from face_pose_ros.keypoints.semantic_predictor import IS_FACE
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.fusion import FittedReadings
from face_pose_ros.tracking.shape_memory import Shape
from face_pose_ros.types import Faces, Keypoints, Readings


@dataclass(frozen=True)
class FacePose:
    """One face. Head frame: origin at the sellion, x out of the face, y to its left, z up."""

    T_cam_head: NDArray[np.float64]  # (4, 4), camera optical frame, m
    covariance: NDArray[np.float64]  # (6, 6): x, y, z [m], rotation about the camera's x, y, z
    # Face Mesh's; those of the fitted face where the hourglass counts for more, of the mean face
    # where only the detector sees the head.
    keypoints_uv: NDArray[np.float64]  # (478, 2) px
    keypoints_sigma_px: NDArray[np.float64]  # (478,); infinite: not measured
    box_xyxy: NDArray[np.float64]  # (4,) px, bounds of the keypoints
    score: float  # in [0, 1], how sure the keypoint network is that this is a face
    shape: NDArray[np.float64]  # (C,) coefficients of the face model, in standard deviations
    shape_covariance: NDArray[np.float64]  # (C, C)
    # Of the fit to this image alone, before `track` remembers and filters: covariance =
    # covariance_given_shape + pose_of_shape @ shape_covariance @ pose_of_shape.T.
    covariance_given_shape: NDArray[np.float64]  # (6, 6)
    pose_of_shape: NDArray[np.float64]  # (6, C)
    shape_prior_of: str  # id of the person whose known shape the fit began with; empty: anybody
    id: str  # stays with a person in `track`; empty in `estimate`
    number: int = 0  # of the id, unique within one tracker; 0 in `estimate`


def bounds_of_readings(readings: Readings) -> Tensor:
    """Bounding boxes (N, 4) px of the faces, by the network that is surer of each."""
    of_mesh = bounds_xyxy(readings.mesh.uv)
    of_head = bounds_xyxy(readings.head.uv[:, IS_FACE])
    surer = readings.head.presence > readings.mesh.presence
    return torch.where(surer[:, None], of_head, of_mesh)


def bounds_xyxy(uv: Tensor) -> Tensor:
    """Bounding boxes (N, 4) px of keypoints (N, K, 2) px, K >= 1."""
    return torch.cat([uv.amin(1), uv.amax(1)], -1)


def face_poses(
    readings: Readings,
    fitted: FittedReadings,
    model: FaceModel,
    camera: Camera,
    prior_of: Sequence[str],
) -> list[FacePose]:
    """The faces whose pose could be found.

    Args:
        readings: N faces.
        fitted: Their poses.
        model: Of Face Mesh's points.
        camera: The camera in whose pixels the readings are.
        prior_of: N ids, see `FacePose.shape_prior_of`.
    """
    keypoints, poses = _shown_keypoints(readings, fitted, model, camera), fitted.poses
    boxes = bounds_xyxy(keypoints.uv)
    columns: Sequence[Tensor] = (
        poses.T_cam_head,
        poses.covariance,
        keypoints.uv,
        keypoints.sigma_px,
        boxes,
        keypoints.presence,
        poses.shape,
        poses.shape_covariance,
        poses.covariance_given_shape,
        poses.pose_of_shape,
    )
    T, covariance, uv, sigma_px, box, presence, shape, shape_covariance, given_shape, of_shape = (
        c.double().numpy() for c in columns
    )
    return [
        FacePose(
            T_cam_head=T[i],
            covariance=covariance[i],
            keypoints_uv=uv[i],
            keypoints_sigma_px=sigma_px[i],
            box_xyxy=box[i],
            score=float(presence[i]),
            shape=shape[i],
            shape_covariance=shape_covariance[i],
            covariance_given_shape=given_shape[i],
            pose_of_shape=of_shape[i],
            shape_prior_of=prior_of[i],
            id='',
        )
        for i in range(len(T))
        if not poses.failed[i]
    ]


def coarse_poses(faces: Faces, model: FaceModel, camera: Camera, anybody: Shape) -> list[FacePose]:
    """Faces as the detector poses them: nothing is measured of their keypoints and their shape.

    Args:
        faces: N proposals with coarse poses.
        model: Of Face Mesh's points; the mean face stands for everybody's.
        camera: The image's camera.
        anybody: What is known of the shape of anybody.
    """
    if faces.coarse is None or len(faces) == 0:
        return []
    T, covariance = faces.coarse.T_cam_head, faces.coarse.covariance.numpy()
    uv = _with_irises(camera.project(se3.apply(T, model.xyz_head)).uv)
    boxes = bounds_xyxy(uv).numpy()
    count = len(anybody.mean)
    return [
        FacePose(
            T_cam_head=T[i].numpy(),
            covariance=covariance[i],
            keypoints_uv=uv[i].numpy(),
            keypoints_sigma_px=np.full(uv.shape[1], np.inf),
            box_xyxy=boxes[i],
            score=float(faces.scores[i]),
            shape=anybody.mean,
            shape_covariance=anybody.covariance,
            covariance_given_shape=covariance[i],
            pose_of_shape=np.zeros((6, count)),
            shape_prior_of='',
            id='',
        )
        for i in range(len(faces))
    ]


def _with_irises(uv: Tensor) -> Tensor:
    """(N, 478, 2) px of Face Mesh's (N, 468, 2): irises in the middle of their eyelids."""
    irises = [uv[:, eye].mean(1, keepdim=True).expand(-1, 5, -1) for eye in EYELIDS]
    return torch.cat([uv, *irises], 1)


def _shown_keypoints(
    readings: Readings, fitted: FittedReadings, model: FaceModel, camera: Camera
) -> Keypoints:
    """Face Mesh's points of N faces: as measured, or of the fitted face.

    What the hourglass measured has fewer points: where it counts for more, the fitted face is
    projected, as uncertain as the measured points are on average.
    """
    rows = (fitted.head_share > 0.5).nonzero()[:, 0]
    if len(rows) == 0:
        return readings.mesh
    poses, head = fitted.poses[rows], readings.head[rows]
    xyz_cam = se3.apply(poses.T_cam_head, model.points(poses.shape))
    uv = _with_irises(camera.project(xyz_cam).uv)
    cov_uv = head.cov_uv.mean(1, keepdim=True).expand(-1, uv.shape[1], -1, -1)
    return readings.mesh.replaced(rows, Keypoints(uv, cov_uv, head.presence))
