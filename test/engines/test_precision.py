# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses are the same in every precision that an engine chooses by itself."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.frames import LENSES, frames

from face_pose_ros import EstimatorOptions, FacePoseEstimator
from face_pose_ros.engines.cuda import HalfPrecision
from face_pose_ros.engines.networks import NETWORKS, load_networks
from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.faces.head_detector import HeadDetector
from face_pose_ros.faces.head_uncertainty import packaged_uncertainty
from face_pose_ros.faces.nms import box_overlaps
from face_pose_ros.geometry import rotations
from face_pose_ros.networks.head_detector import packaged_head_detector
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network
from face_pose_ros.options import KeypointOptions
from face_pose_ros.pose.face_model import deformable_face

MEAN_DEG, WORST_DEG = 0.1, 0.5
SURE = 0.7  # score: near the threshold rounding decides


PACKAGED = {
    'head_detector': packaged_head_detector,
    'keypoint_network': packaged_keypoint_network,
}


def half(name):
    return TorchNetwork(HalfPrecision(PACKAGED[name]()), 'cpu')


def bfloat16(name):
    """On a CPU that has it."""
    return of_openvino(name, 'bf16')


def int8(name):
    """On any CPU; one without VNNI may saturate."""
    return of_openvino(name, 'int8')


def of_openvino(name, precision):
    if importlib.util.find_spec('openvino') is None:
        pytest.skip('OpenVINO is missing')
    from face_pose_ros.engines.openvino import OpenVinoNetwork

    return OpenVinoNetwork(name, 1, precision=precision)


ENGINES = [
    bfloat16,
    half,
    pytest.param(
        lambda name: load_networks('cuda')[1 + NETWORKS.index(name)],
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
    found = poses(networks._replace(keypoints=engine('keypoint_network')), pictures)
    delta = rotations.difference(expected, found)
    angle_deg = np.rad2deg(np.linalg.norm(delta[:, 3:], axis=1))
    assert 0 < angle_deg.mean() < MEAN_DEG
    assert angle_deg.max() < WORST_DEG
    distance = np.linalg.norm(expected[:, :3, 3], axis=1)
    assert (np.linalg.norm(delta[:, :3], axis=1) < 5e-3 * distance.clip(0.1)).all()


@pytest.mark.slow
@pytest.mark.parametrize('engine', ENGINES)
def test_boxes_and_coarse_poses_hardly_depend_on_the_precision(engine, pictures):
    off, angle_deg, share, score = differences(engine, pictures)
    assert 0 < max(off) < 0.01  # of the side
    assert np.mean(angle_deg) < 0.2
    assert max(angle_deg) < 1
    assert max(share) < 0.015  # of the distance
    assert max(score) < 0.02


@pytest.mark.slow
@pytest.mark.skipif(
    '_vnni' not in Path('/proc/cpuinfo').read_text(), reason='needs a CPU with VNNI'
)
def test_boxes_and_coarse_poses_in_eight_bits_stay_close(pictures):
    off, angle_deg, share, score = differences(int8, pictures)
    assert 0 < max(off) < 0.02
    assert 0.2 < np.mean(angle_deg) < 1
    assert max(angle_deg) < 3
    assert max(share) < 0.02
    assert max(score) < 0.02


def differences(engine, pictures):
    """Of boxes [side], coarse rotations [deg], positions [distance], and scores, from float32."""
    xyz_face, uncertainty = deformable_face().xyz_head, packaged_uncertainty()
    detectors = [
        HeadDetector(network, xyz_face, uncertainty)
        for network in (load_networks('cpu', precision='f32').detector, engine('head_detector'))
    ]
    off, angle_deg, share, score = [], [], [], []
    some = pictures[::5]  # float16 is slow on a CPU
    for frame in some:
        camera = LENSES[frame.lens].camera()
        expected, found = (detector.detect(frame.image, camera) for detector in detectors)
        expected = expected[expected.scores > SURE]
        iou, _ = box_overlaps(np.concatenate([expected.boxes_xyxy, found.boxes_xyxy]))
        for i in range(len(expected)):
            j = int(iou[i, len(expected) :].argmax())
            side = np.ptp(expected.boxes_xyxy[i, ::2])
            off.append(abs(found.boxes_xyxy[j] - expected.boxes_xyxy[i]).max() / side)
            T, T_expected = (f.coarse.T_cam_head[k] for f, k in ((found, j), (expected, i)))
            delta = rotations.difference(T_expected[None], T[None])[0]
            angle_deg.append(np.rad2deg(np.linalg.norm(delta[3:])))
            share.append(np.linalg.norm(delta[:3]) / np.linalg.norm(T_expected[:3, 3]))
            score.append(abs(found.scores[j] - expected.scores[i]))
    assert len(off) > 0.5 * len(some)
    return off, angle_deg, share, score
