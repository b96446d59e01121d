# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses are the same in every precision that an engine chooses by itself."""

import importlib.util

import numpy as np
import pytest
import torch
from golden.frames import LENSES, frames

from face_pose_ros import EstimatorOptions, FacePoseEstimator
from face_pose_ros.engines.cuda import HalfPrecision
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.geometry import rotations
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network
from face_pose_ros.options import KeypointOptions

MEAN_DEG, WORST_DEG = 0.1, 0.5


def half():
    return TorchNetwork(HalfPrecision(packaged_keypoint_network()), 'cpu')


def bfloat16():
    """On a CPU that has it."""
    if importlib.util.find_spec('openvino') is None:
        pytest.skip('OpenVINO is missing')
    from face_pose_ros.engines.openvino import OpenVinoNetwork

    return OpenVinoNetwork('keypoint_network', 1, precision='bf16')


ENGINES = [
    bfloat16,
    half,
    pytest.param(
        lambda: load_networks('cuda').keypoints,
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
        id='cuda',
    ),
]


@pytest.fixture(scope='module')
def pictures():
    """Portraits, and heads of one person at yaw -90 ... 90 deg and of eight others."""
    return [f for f in frames_until('turned heads') if f.stamp_s is None]


def frames_until(scene):
    """The golden frames up to the end of a scene."""
    seen = False
    for frame in frames():
        if seen and frame.scene != scene:
            return
        seen = frame.scene == scene
        yield frame


def poses(networks, pictures):
    """(N, 4, 4) of the most certain face of each picture; identity: there is none."""
    # One crop, because the number of crops may depend on rounding.
    options = EstimatorOptions(keypoints=KeypointOptions(max_crops=1))
    estimator, T = FacePoseEstimator(options=options, networks=networks), []
    for frame in pictures:
        faces = estimator.estimate(frame.image, LENSES[frame.lens].camera())
        T.append(faces[0].T_cam_head if faces else np.eye(4))
    return np.stack(T)


@pytest.fixture(scope='module')
def exact(pictures):
    networks = load_networks('cpu', precision='f32', threads=1)
    return networks, poses(networks, pictures)


@pytest.mark.slow
@pytest.mark.parametrize('engine', ENGINES)
def test_poses_hardly_depend_on_the_precision(engine, exact, pictures):
    networks, expected = exact
    found = poses(networks._replace(keypoints=engine()), pictures)
    delta = rotations.difference(expected, found)
    angle_deg = np.rad2deg(np.linalg.norm(delta[:, 3:], axis=1))
    assert 0 < angle_deg.mean() < MEAN_DEG
    assert angle_deg.max() < WORST_DEG
    distance = np.linalg.norm(expected[:, :3, 3], axis=1)
    assert (np.linalg.norm(delta[:, :3], axis=1) < 5e-3 * distance.clip(0.1)).all()
