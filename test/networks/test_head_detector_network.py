# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The head detector's network: its grids, and what it does not depend on."""

import pytest
import torch

from face_pose_ros.faces.head_cells import FRONTAL_COLUMNS, NUMBERS, STRIDES
from face_pose_ros.networks.head_detector import (
    HeadDetectorNetwork,
    HeadDetectorSizes,
    fused,
    packaged_head_detector,
)


@pytest.fixture(scope='module')
def network():
    return packaged_head_detector()


@pytest.mark.parametrize(('count', 'height', 'width'), [(2, 64, 96), (1, 224, 160), (0, 96, 64)])
@torch.inference_mode()
def test_each_stride_has_its_grid(network, count, height, width):
    outputs = network(torch.zeros(count, 3, height, width))
    assert [tuple(output.shape) for output in outputs] == [
        (count, NUMBERS, height // stride, width // stride) for stride in STRIDES
    ]


@torch.inference_mode()
def test_the_output_for_an_image_does_not_depend_on_its_batch(network, generator):
    images = torch.rand(3, 3, 96, 64, generator=generator)
    for together, alone in zip(network(images), network(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_the_fused_network_is_the_trained_one(generator):
    trained = HeadDetectorNetwork(HeadDetectorSizes((4, 8, 8, 12, 12, 16), pyramid=8, tower=1))
    for module in trained.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.uniform_(0.5, 2, generator=generator)
    images = torch.rand(2, 3, 96, 128, generator=generator)
    for found, expected in zip(fused(trained)(images), trained.eval()(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_new_network_proposes_rare_frontal_heads():
    output = HeadDetectorNetwork().eval()(torch.zeros(1, 3, 64, 64))[0][0, :, 4, 4]
    assert torch.sigmoid(output[0]) == pytest.approx(0.01, rel=0.1)
    torch.testing.assert_close(output[4:10], torch.tensor(FRONTAL_COLUMNS), rtol=0, atol=0.05)


@pytest.mark.parametrize('shape', [(3, 64, 64), (1, 3, 64, 80), (1, 3, 32, 64), (1, 3, 96, 0)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match='multiples of 32 and at least 64, got'):
        network(torch.zeros(shape))
