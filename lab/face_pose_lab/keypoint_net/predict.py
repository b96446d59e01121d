# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run a trained state of the keypoint network with the runtime's code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.geometry.crops import Crops
from face_pose_ros.keypoints.network_output import Calibration
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.networks.keypoint_network import KeypointNetwork, fused

Network = Callable[[Tensor], Tensor]  # (N, 3, 128, 128) in [0, 1] -> (N, 437)
Array = NDArray[np.float64]


def load_network(path: Path) -> KeypointNetwork:
    """The averaged weights of a training's state, for inference."""
    network = KeypointNetwork()
    network.load_state_dict(torch.load(path, weights_only=True)['average'])
    return fused(network.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_calibration(path: Path | None) -> Calibration:
    """The calibration in a file of `calibrate`; None: the identity."""
    return Calibration() if path is None else Calibration(*np.load(path)['calibration'].tolist())


def predictor_of(network: Network, calibration: Calibration, max_crops: int) -> KeypointPredictor:
    """The runtime's predictor with a network in torch."""
    return KeypointPredictor(TorchNetwork(network, 'cpu'), calibration, max_crops)


def to_crop(xyz_cam: Array, crops: Crops) -> Array:
    """Project points (N, P, 3) of the camera frame to pixels (N, P, 2) of N crops."""
    xyz = xyz_cam @ crops.R_cam_crop
    f = crops.focal_px[:, None, None]
    return f * xyz[..., :2] / xyz[..., 2:] + 0.5 * (crops.size_px - 1)
