# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors of trained states, for calibration and evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from face_pose_ros.engines.networks import load_networks
from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.faces.head_detector import HeadDetector
from face_pose_ros.faces.head_uncertainty import HeadUncertainty, packaged_uncertainty
from face_pose_ros.networks.head_detector import HeadDetectorNetwork, fused
from face_pose_ros.options import DetectorOptions
from face_pose_ros.pose.face_model import deformable_face

LEAST_SCORE = 0.01  # the lowest threshold that there is
# The whole image at its own resolution, down to the smallest heads.
WHOLE = DetectorOptions(score_threshold=LEAST_SCORE, min_face_px=16, max_input_px=4096)


def trained_network(state: Path) -> HeadDetectorNetwork:
    """The average of a training's weights, rounded as it is packaged."""
    network = HeadDetectorNetwork()
    network.load_state_dict(torch.load(state, weights_only=True)['average'])
    network = fused(network.eval())
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.copy_(weight.half())
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def uncalibrated() -> HeadUncertainty:
    """What leaves scores and sigmas as the network gives them."""
    return HeadUncertainty(np.array(0.0), np.log([20.0, 40.0]), np.tile(np.eye(6), (2, 1, 1)))


def trained_detector(state: Path, options: DetectorOptions = WHOLE) -> HeadDetector:
    """Of a training's state, without calibration."""
    network = TorchNetwork(trained_network(state), 'cpu')
    return HeadDetector(network, deformable_face().xyz_head, uncalibrated(), options)


def packaged_detector(options: DetectorOptions | None = None) -> HeadDetector:
    """The package's detector."""
    network, xyz_face = load_networks('cpu').detector, deformable_face().xyz_head
    return HeadDetector(network, xyz_face, packaged_uncertainty(), options)
