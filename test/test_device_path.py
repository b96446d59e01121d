"""What an image costs on a GPU, told on one that is pretended: copies, questions, results."""

import pytest
import torch
from helpers.portraits import portrait_view
from helpers.pretended_gpu import DEVICE, on_pretended_gpu, pretended_gpu

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines.networks import Networks, load_networks

# For each look: part of the image and nodes of its crops, then keypoints.
LOOK = {('upload', 'keypoints/crop.py:render_crops_torch'): 2}
LOOK |= {('download', 'keypoints/predictor.py:_on_cpu'): 1}
LOOK_OF_BOTH = LOOK | {
    ('upload', 'keypoints/crop.py:render_crops_torch'): 4,
    ('download', 'keypoints/hourglass.py:read_packaged'): 1,
}
# The image, then proposals of two levels.
DETECTION = {('upload', 'estimator.py:_detect'): 1, ('download', 'faces/detector.py:_likely'): 2}

# A CPU resizes the detector's picture in bytes, a GPU does not: the boxes differ by 0.2 px, and
# with them what the network says.
TOLERANCE_PX = 0.3


@pytest.fixture(scope='module')
def on_cpu():
    return load_networks('cpu', 'torch')


@pytest.fixture
def estimator(on_cpu):
    networks = map(on_pretended_gpu, (on_cpu.detector, on_cpu.keypoints, on_cpu.hourglass))
    return FacePoseEstimator(networks=Networks(DEVICE, *networks))


def counted(waits):
    return {wait: waits.count(wait) for wait in waits}


def test_a_followed_face_costs_two_uploads_and_a_download(estimator, on_cpu):
    rgb, camera = portrait_view()
    reference = FacePoseEstimator(networks=on_cpu)
    reference.track(rgb, camera, 0.0)
    (expected,) = reference.track(rgb, camera, 0.1)
    with pretended_gpu() as waits:
        estimator.track(rgb, camera, 0.0)
        waits.clear()
        (found,) = estimator.track(rgb, camera, 0.1)
    assert counted(waits) == LOOK
    assert abs(found.keypoints_uv - expected.keypoints_uv).max() < TOLERANCE_PX


def test_a_new_face_costs_a_detection_and_two_looks_of_both_networks(estimator, on_cpu):
    rgb, camera = portrait_view()
    (expected,) = FacePoseEstimator(networks=on_cpu).estimate(rgb, camera)
    with pretended_gpu() as waits:
        (found,) = estimator.estimate(rgb, camera)
    looks = {wait: 2 * count for wait, count in LOOK_OF_BOTH.items()}
    assert counted(waits) == DETECTION | looks
    assert abs(found.keypoints_uv - expected.keypoints_uv).max() < TOLERANCE_PX


def test_in_the_same_box_there_is_the_same_face(estimator, on_cpu):
    rgb, camera = portrait_view()
    reference = FacePoseEstimator(networks=on_cpu)
    box = [reference.estimate(rgb, camera)[0].box_xyxy]
    (expected,) = reference.estimate(rgb, camera, box)
    with pretended_gpu():
        (found,) = estimator.estimate(rgb, camera, box)
    assert abs(found.keypoints_uv - expected.keypoints_uv).max() < 0.01
    assert abs(found.T_cam_head - expected.T_cam_head).max() < 1e-4


def test_an_image_on_the_gpu_stays_there(estimator):
    rgb, camera = portrait_view()
    with pretended_gpu() as waits:
        image = torch.from_numpy(rgb).to(DEVICE)
        waits.clear()
        (face,) = estimator.estimate(image, camera)
    assert counted(waits) == {
        ('download', 'faces/detector.py:_likely'): 2,
        ('upload', 'keypoints/crop.py:render_crops_torch'): 4,
        ('download', 'keypoints/predictor.py:_on_cpu'): 2,
        ('download', 'keypoints/hourglass.py:read_packaged'): 2,
    }
    assert face.score > 0.9
