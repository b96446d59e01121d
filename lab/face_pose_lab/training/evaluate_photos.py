# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of an hourglass on photographs during training: the AFLW2000-3D protocol.

The pictures are for research only; no network is trained on them and nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.aflw2000 import measured
from face_pose_lab.evaluation.aflw2000_samples import Sample
from face_pose_lab.hourglass.network import StackedHourglass
from face_pose_lab.hourglass.numbers import CropKeypoints, KeypointCalibration
from face_pose_lab.hourglass.predictor import SemanticPredictor
from face_pose_lab.training.evaluate_crops import predict_crops
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops, render_crops
from face_pose_ros.keypoints import semantic
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

_LOOKS, _MARGIN = 3, 2.5
_UNCALIBRATED = KeypointCalibration(1.0, 0.0, 1.0, 0.0, 6.0)


def score_aflw2000(
    network: StackedHourglass, model: FaceModel, samples: Sequence[Sample], amp: bool
) -> list[metrics.Row]:
    """Errors by bins of |yaw|; every face counts as found."""
    predictor = predictor_of(network, amp)
    rotations, covariances = [], []
    for sample in samples:
        image = load_image(sample.path)
        camera = photo_camera(image.shape[1], image.shape[0])
        heads = measured(predictor, image, sample, camera, _MARGIN)
        poses = fit_pose(heads, model, camera, PoseOptions(independent_keypoints=6.0)).poses
        rotations.append(poses.T_cam_head[0, :3, :3])
        covariances.append(poses.covariance[0, 3:, 3:])
    return metrics.score(
        np.stack(rotations),
        np.stack(covariances),
        np.ones(len(samples), dtype=bool),
        np.stack([s.pitch_yaw_roll_deg for s in samples]),
    )


def predictor_of(network: StackedHourglass, amp: bool) -> SemanticPredictor:
    """With a network of the standard semantic keypoints, in several crops."""
    device = next(network.parameters()).device
    mirror = torch.from_numpy(semantic.MIRROR)

    @torch.no_grad()
    def keypoints(image: NDArray[np.uint8], crops: Crops, camera: Camera) -> CropKeypoints:
        pictures = torch.from_numpy(render_crops(image, crops, camera)).to(device)
        found = predict_crops(network, pictures, mirror, amp)
        return CropKeypoints(*(values.double().cpu().numpy() for values in found))

    return SemanticPredictor(keypoints, _UNCALIBRATED, _LOOKS, network.options.input_px)
