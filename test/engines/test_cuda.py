"""Graphs of fixed batch sizes: the bookkeeping anywhere, the graphs where there is a GPU."""

import pytest
import torch

from face_pose_ros.engines.cuda import Graph, GraphedNetwork
from face_pose_ros.engines.networks import load_networks


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
