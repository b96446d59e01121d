"""How well an hourglass reads real photographs: the AFLW2000-3D protocol.

Boxes, camera and angles are those of `evaluation.aflw2000`. The pictures are for research only; no
network is trained on them and nothing is chosen by them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from face_pose_ros.evaluation import metrics
from face_pose_ros.evaluation.aflw2000 import load_samples
from face_pose_ros.evaluation.portraits import load_image
from face_pose_ros.evaluation.virtual_camera import photo_camera
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.crop import (
    FaceCrops,
    crops_around_boxes,
    crops_around_keypoints,
    render_crops,
)
from face_pose_ros.keypoints.hourglass import StackedHourglass
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.refine import PoseOptions, fit_pose
from face_pose_ros.training.evaluate_crops import predict_crops
from face_pose_ros.types import Keypoints

CROP_MARGIN = 2.0  # side of the crop over that of the face keypoints' bounds, as rendered
# The bounds of the 68 points end at the brows: the face is so much larger, and so much further up.
_FIRST_MARGIN = 2.5
_FIRST_RISE = 0.12
_LOOKS = 3
_IS_FACE = torch.from_numpy(semantic.IS_FACE)


def _indices(*names: str) -> Tensor:
    """Among the face keypoints."""
    face = [n for n, is_face in zip(semantic.NAMES, semantic.IS_FACE, strict=True) if is_face]
    return torch.tensor([face.index(name) for name in names])


_EYE_RIGHT = _indices('eye_outer_right', 'eye_inner_right')
_EYE_LEFT = _indices('eye_outer_left', 'eye_inner_left')
_FOREHEAD = _indices('forehead', 'glabella')
_CHIN = _indices('chin', 'menton')


def score_aflw2000(
    network: StackedHourglass, model: FaceModel, folder: Path, amp: bool
) -> list[metrics.Row]:
    """Errors by bins of |yaw|; every face counts as answered."""
    samples = load_samples(folder)
    rotations, covariances = [], []
    for sample in samples:
        image = torch.from_numpy(load_image(sample.path))
        camera = photo_camera(image.shape[1], image.shape[0])
        box = torch.from_numpy(sample.box_xyxy)[None]
        keypoints = measure(network, image, box, camera, amp)
        poses = fit_pose(keypoints, model, camera, PoseOptions(visibility=False)).poses
        rotations.append(poses.T_cam_head[0, :3, :3].numpy())
        covariances.append(poses.covariance[0, 3:, 3:].numpy())
    return metrics.score(
        np.stack(rotations),
        np.stack(covariances),
        np.ones(len(samples), dtype=bool),
        np.stack([s.pitch_yaw_roll_deg for s in samples]),
    )


@torch.no_grad()
def measure(
    network: StackedHourglass, image: Tensor, boxes_xyxy: Tensor, camera: Camera, amp: bool
) -> Keypoints:
    """Keypoints of faces in boxes (N, 4) that end at the brows, in several looks."""
    size_px = network.options.input_px
    height = boxes_xyxy[:, 3] - boxes_xyxy[:, 1]
    rise = torch.zeros_like(boxes_xyxy)
    rise[:, 1::2] = (_FIRST_RISE * height)[:, None]
    crops = crops_around_boxes(boxes_xyxy - rise, None, camera, size_px, _FIRST_MARGIN)
    found = look(network, image, crops, camera, amp)
    for _ in range(_LOOKS - 1):
        crops = crops_around_keypoints(
            found.uv[:, _IS_FACE],
            _EYE_RIGHT,
            _EYE_LEFT,
            _FOREHEAD,
            _CHIN,
            camera,
            size_px,
            CROP_MARGIN,
        )
        found = look(network, image, crops, camera, amp)
    return found


def look(
    network: StackedHourglass, image: Tensor, crops: FaceCrops, camera: Camera, amp: bool
) -> Keypoints:
    """Keypoints in one look at each face."""
    device = next(network.parameters()).device
    points = predict_crops(network, render_crops(image, crops, camera).to(device), amp)
    uv, _ = crops.to_image(points.uv.to(camera.f), camera)
    J = crops.jacobian(camera)[:, None]
    cov_uv = J @ points.cov_uv.to(camera.f) @ J.mT
    return Keypoints(uv, cov_uv, points.confidence.mean(-1))
