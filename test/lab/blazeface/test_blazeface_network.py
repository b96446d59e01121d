# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network against LiteRT."""

import cv2
import numpy as np
import pytest
import torch
from face_pose_lab.blazeface.network import blazeface_full_range
from helpers.published_models import published_model, run_litert

from face_pose_ros.samples import load_portraits


@pytest.fixture(scope='module')
def network():
    return blazeface_full_range()


@pytest.mark.parametrize('name', ['grace_hopper', 'astronaut'])
@torch.inference_mode()
def test_same_output_as_the_published_graph(network, name):
    model = published_model('face_detection_full_range.tflite')
    small = cv2.resize(load_portraits()[name], (192, 192), interpolation=cv2.INTER_AREA)
    image = small.astype(np.float32)[None] / 127.5 - 1
    outputs = {o.shape[-1]: torch.from_numpy(o) for o in run_litert(model, image)}
    logits, regressions = network(torch.from_numpy(image).permute(0, 3, 1, 2))
    assert logits.max() > 1  # there is a face to compare
    torch.testing.assert_close(logits, outputs[1][..., 0], rtol=0, atol=1e-4)
    torch.testing.assert_close(regressions, outputs[16], rtol=0, atol=1e-3)  # px of 192


@torch.inference_mode()
def test_any_multiple_of_32_and_any_batch(network):
    logits, regressions = network(torch.zeros(2, 3, 64, 96))
    assert logits.shape == (2, 16 * 24)
    assert regressions.shape == (2, 16 * 24, 16)
    logits, regressions = network(torch.zeros(0, 3, 192, 192))
    assert logits.shape == (0, 2304)
    assert regressions.shape == (0, 2304, 16)


@torch.inference_mode()
def test_the_output_for_an_image_does_not_depend_on_its_batch(network, generator):
    pictures = torch.rand(3, 3, 96, 64, generator=generator) * 2 - 1
    logits, _ = network(pictures)
    alone, _ = network(pictures[1:2])
    torch.testing.assert_close(logits[1:2], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize('shape', [(3, 192, 192), (1, 1, 192, 192), (1, 3, 192, 200)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match='multiples of 32'):
        network(torch.zeros(shape))
