"""Graphs of fixed batch sizes: the bookkeeping anywhere, the graphs where there is a GPU."""

import pytest
import torch
from helpers.portraits import portrait_view

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines.cuda import Graph, GraphedNetwork
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.geometry import so3


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
    network = GraphedNetwork(double, tuple, capture)
    first = torch.rand(count, 3, 4, 4, generator=generator)
    kept = network(first)
    for pictures in (first, torch.rand(count, 3, 4, 4, generator=generator)):
        for found, expected in zip(network(pictures), double(pictures), strict=True):
            torch.testing.assert_close(found, expected)
    torch.testing.assert_close(kept[0], 2 * first.flatten(1))  # not overwritten by the next call
    assert captured == sizes


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('count', [1, 3])
def test_keypoints_on_a_gpu_are_those_of_the_cpu(count, crops):
    expected = load_networks('cpu', 'torch').keypoints(crops[:count])
    found = load_networks('cuda').keypoints(crops[:count].cuda())
    torch.testing.assert_close(found.uv.cpu(), expected.uv, rtol=0, atol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('name', ['grace_hopper', 'astronaut'])
def test_poses_on_a_gpu_are_those_of_the_cpu(name):
    rgb, camera = portrait_view(name)
    (expected,) = FacePoseEstimator('cpu').estimate(rgb, camera)
    (found,) = FacePoseEstimator('cuda').estimate(rgb, camera)
    R_expected, R_found = (torch.from_numpy(f.T_cam_head[:3, :3]) for f in (expected, found))
    assert so3.angle_between(R_found, R_expected).rad2deg() < 0.05
    assert abs(found.keypoints_uv - expected.keypoints_uv).max() < 0.3


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_graphs_run_on_the_second_gpu_too(crops):
    expected = load_networks('cpu', 'torch').keypoints(crops)
    found = load_networks('cuda:1').keypoints(crops.to('cuda:1'))
    assert found.uv.device == torch.device('cuda:1')
    torch.testing.assert_close(found.uv.cpu(), expected.uv, rtol=0, atol=0.1)
