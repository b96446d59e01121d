# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""GPU code on the CPU: bookkeeping of graphs, half precision, rendered crops."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from engines.conftest import places_px
from helpers.portraits import portrait_view

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines.cuda import Graph, GraphedNetwork, HalfPrecision, render_crops
from face_pose_ros.engines.network import Network
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.engines.torch_engine import TorchNetwork, packaged
from face_pose_ros.faces.head_cells import NUMBERS
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.crops import Crops, crops_around_boxes
from face_pose_ros.networks.head_detector import packaged_head_detector
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network


def double(pictures):
    return 2 * pictures.flatten(1), pictures.sum((1, 2, 3))


def capture(network, pictures):
    outputs = network(pictures)

    def replay():
        for output, new in zip(outputs, network(pictures), strict=True):
            output.copy_(new)

    captured.append(pictures.shape[0])
    return Graph(pictures, outputs, replay)


captured = []


@pytest.mark.parametrize(('count', 'sizes'), [(1, [1]), (3, [4]), (64, [64]), (130, [64, 2])])
def test_batches_are_filled_up_and_cut(count, sizes, generator):
    captured.clear()
    network = GraphedNetwork(double, capture)
    first = torch.rand(count, 3, 4, 4, generator=generator)
    kept = network(first)
    for pictures in (first, torch.rand(count, 3, 4, 4, generator=generator)):
        for found, expected in zip(network(pictures), double(pictures), strict=True):
            torch.testing.assert_close(found, expected)
    torch.testing.assert_close(kept[0], 2 * first.flatten(1))  # not overwritten by the next call
    assert captured == sizes


def test_calls_from_two_threads_do_not_share_the_memory_of_a_graph():
    both_run = threading.Barrier(2)

    def capture_slow(network, pictures):
        graph = capture(network, pictures)

        def replay():
            graph.replay()
            with contextlib.suppress(threading.BrokenBarrierError):
                both_run.wait(0.2)  # until the other thread is here too, which must not happen

        return graph._replace(replay=replay)

    network = GraphedNetwork(double, capture_slow)
    pictures = [torch.full((2, 3, 4, 4), value) for value in (1.0, 5.0)]
    with ThreadPoolExecutor(2) as threads:
        outputs = list(threads.map(network, pictures))
    for (first, _), expected in zip(outputs, (2.0, 10.0), strict=True):
        torch.testing.assert_close(first, torch.full_like(first, expected))


@pytest.mark.parametrize('shrink', [1, 2])
def test_crops_rendered_on_a_device_are_those_of_the_cpu(shrink):
    rgb, camera = portrait_view()
    # Of about one size, for the image is halved as the smallest allows; one leaves the image.
    boxes = np.array([[200.0, 60, 330, 190], [-20, 150, 112, 282]])
    crops = crops_around_boxes(boxes, camera, 64, 1.5)
    expected = Network().render(rgb, crops, camera, shrink)
    found = render_crops(rgb, crops, camera, shrink, torch.device('cpu'))
    assert found.shape == expected.shape == (2, 3, 64, 64)
    # The CPU rounds each mean of four pixels to bytes.
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-3)


def test_a_crop_without_rays_shows_something():
    rgb, camera = portrait_view()
    crops = Crops(np.full((1, 3, 3), np.nan), np.ones(1), np.zeros(1, bool), 64)
    assert render_crops(rgb, crops, camera, 1, torch.device('cpu')).isfinite().all()


def test_tensors_of_several_calls_are_joined_and_run_like_arrays(crops):
    network = TorchNetwork(packaged_keypoint_network(), 'cpu')
    joined = network.join([torch.from_numpy(crops[:1]), torch.from_numpy(crops[1:])])
    assert isinstance(joined, torch.Tensor)
    for found, expected in zip(network(joined), network(crops), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.fixture(scope='module')
def exact():
    return load_networks('cpu', 'torch')


@pytest.fixture(scope='module')
def half(exact):
    return exact._replace(
        detector=TorchNetwork(HalfPrecision(packaged_head_detector()), 'cpu'),
        keypoints=TorchNetwork(HalfPrecision(packaged_keypoint_network()), 'cpu'),
    )


def test_keypoints_in_half_precision_stay_within_a_tenth_of_a_pixel(exact, half, crops):
    expected, found = exact.keypoints(crops), half.keypoints(crops)
    off_px = np.linalg.norm(places_px(found[0]) - places_px(expected[0]), axis=-1)
    assert off_px.max() < 0.1
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=0.03)
    assert {output.dtype for output in found} == {np.dtype(np.float32)}
    assert not np.array_equal(found[0], expected[0])  # something was rounded


def test_half_precision_is_that_of_a_copy():
    network = packaged_keypoint_network()
    HalfPrecision(network)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_heads_in_half_precision_stay_within_a_fiftieth_of_a_cell(exact, half, scene):
    outputs = exact.detector(scene), half.detector(scene)
    assert {output.dtype for output in outputs[1]} == {np.dtype(np.float32)}
    expected, found = (
        np.concatenate([output.reshape(NUMBERS, -1) for output in each], 1) for each in outputs
    )
    best = np.argsort(expected[0])[-8:]
    np.testing.assert_allclose(found[:10, best], expected[:10, best], rtol=0, atol=0.02)
    assert abs(found - expected).max() < 0.2
    assert not np.array_equal(found, expected)  # something was rounded


def test_crops_of_any_brightness_have_finite_keypoints_in_half_precision(half):
    pictures = np.stack([np.full((3, 128, 128), value, np.float32) for value in (0.0, 1.0)])
    pictures[1, :, ::2] = 0
    assert all(np.isfinite(output).all() for output in half.keypoints(pictures))


@pytest.mark.parametrize('name', ['grace_hopper', 'astronaut'])
def test_poses_in_half_precision_stay_within_a_twentieth_of_a_degree(exact, half, name):
    rgb, camera = portrait_view(name)
    (expected,) = FacePoseEstimator(networks=exact).estimate(rgb, camera)
    (found,) = FacePoseEstimator(networks=half).estimate(rgb, camera)
    assert_close_poses(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('name', ['grace_hopper', 'astronaut'])
def test_poses_on_a_gpu_are_those_of_the_cpu(name):
    rgb, camera = portrait_view(name)
    (expected,) = FacePoseEstimator('cpu').estimate(rgb, camera)
    (found,) = FacePoseEstimator('cuda').estimate(rgb, camera)
    assert_close_poses(found, expected)
    assert abs(found.keypoints_uv - expected.keypoints_uv).max() < 0.3


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_crops_stay_on_a_gpu():
    rgb, camera = portrait_view()
    crops = crops_around_boxes(np.array([[200.0, 60, 330, 190]]), camera, 128, 1.5)
    network = packaged('keypoint_network', 'cuda', graphs=True, threads=1)
    pictures = network.render(rgb, crops, camera)
    assert pictures.device.type == 'cuda'
    assert isinstance(network(pictures)[0], np.ndarray)


def assert_close_poses(found, expected):
    R_found, R_expected = (face.T_cam_head[:3, :3] for face in (found, expected))
    assert np.degrees(rotations.angle_between(R_found, R_expected)) < 0.05
    t_found, t_expected = (face.T_cam_head[:3, 3] for face in (found, expected))
    assert abs(t_found - t_expected).max() < 1e-3 * t_expected[2]
