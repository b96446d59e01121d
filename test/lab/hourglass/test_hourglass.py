# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stacked hourglass: sizes, every stack supervised, no preferred side, clear errors."""

import math

import pytest
import torch
from face_pose_lab.hourglass.network import HourglassOptions, StackedHourglass
from face_pose_lab.torch_keypoints.heatmaps import TARGET_SIGMA, decode_heatmaps, render_heatmaps
from face_pose_lab.torch_keypoints.hourglass import positive_heatmaps

TINY = {'keypoints': 5, 'input_px': 64, 'stem_channels': (8, 16), 'channels': (16, 24, 32)}


@pytest.mark.parametrize('bottleneck', [True, False])
@pytest.mark.parametrize(('stacks', 'blocks'), [(1, (1,)), (3, (2,)), (1, (2, 1, 3))])
def test_every_size_gives_its_heatmaps(stacks, blocks, bottleneck):
    options = HourglassOptions(**TINY, stacks=stacks, blocks=blocks, bottleneck=bottleneck)
    output = StackedHourglass(options).eval()(torch.rand(2, 3, 64, 64))
    assert output.heatmaps.shape == (2, stacks, 5, 16, 16)
    assert output.regression is None
    assert options.stride == 4


@pytest.mark.parametrize('bottleneck', [True, False])
def test_a_deeper_network_starts_as_the_shallow_one_inside_it(bottleneck):
    sizes = TINY | {'bottleneck': bottleneck, 'distribution': True, 'regressor': 16}
    shallow = StackedHourglass(HourglassOptions(**sizes, blocks=(1, 2))).eval()
    deep = StackedHourglass(HourglassOptions(**sizes, blocks=(2, 3))).eval()
    assert len(deep.state_dict()) > len(shallow.state_dict())
    deep.load_state_dict(shallow.state_dict(), strict=False)
    crop = torch.rand(2, 3, 64, 64)
    assert torch.equal(deep(crop).heatmaps, shallow(crop).heatmaps)
    assert torch.equal(deep(crop).regression, shallow(crop).regression)


def test_the_papers_network_has_the_papers_sizes():
    options = HourglassOptions(keypoints=102)
    assert (options.stacks, options.input_px, options.heatmap_px) == (2, 256, 64)
    with torch.device('meta'):
        network = StackedHourglass(options)
        count = sum(p.numel() for p in network.parameters())
        assert network(torch.rand(1, 3, 256, 256)).heatmaps.shape == (1, 2, 102, 64, 64)
    assert 5e6 < count < 8e6


def test_a_loss_on_the_first_stack_trains_nothing_behind_it():
    network = StackedHourglass(HourglassOptions(**TINY, stacks=2))
    network(torch.rand(2, 3, 64, 64)).heatmaps[:, 0].sum().backward()
    assert network.stem[0].weight.grad.abs().max() > 0
    assert network.heads[0].weight.grad.abs().max() > 0
    assert network.heads[1].weight.grad.abs().max() == 0


def test_the_second_stack_sees_the_firsts_heatmaps():
    network = StackedHourglass(HourglassOptions(**TINY, stacks=2)).eval()
    crop = torch.rand(1, 3, 64, 64)
    before = network(crop).heatmaps
    with torch.no_grad():
        network.heads[0].bias += 5
    after = network(crop).heatmaps
    assert (after - before)[:, 1].abs().max() > 1e-3


def test_the_stem_has_no_preferred_side():
    """Mirrored windows see a mirrored crop as the windows see the crop: no shift by a pixel."""
    network = StackedHourglass(HourglassOptions(**TINY)).eval()
    for layer in network.stem:
        if isinstance(layer, torch.nn.Conv2d):
            with torch.no_grad():
                layer.weight.copy_(layer.weight + layer.weight.flip(-1))
    stem = network.stem[:-1]
    crop = torch.rand(1, 3, 64, 64)
    assert torch.allclose(stem(crop).flip(-1), stem(crop.flip(-1)), atol=1e-5)


def test_a_sure_distribution_reads_like_a_target():
    options = HourglassOptions(**TINY, distribution=True)
    uv = torch.tensor([[[31.3, 22.8], [40.0, 9.1]]])
    target = render_heatmaps(uv, 16, 16, 4)
    logits = target.log().clamp_min(-60) + 3.0  # a constant changes no distribution
    heatmaps = positive_heatmaps(logits, options)
    assert (heatmaps - target).abs().max() < 0.01  # the border cuts a little off
    points = decode_heatmaps(heatmaps, 4)
    assert (points.uv - uv).abs().max() < 1e-2
    assert (points.confidence > 0.98).all()
    flat = positive_heatmaps(torch.zeros(1, 1, 16, 16), options)
    assert float(flat.max()) == pytest.approx(2 * math.pi * TARGET_SIGMA**2 / 256)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'input_px': 60}, 'input_px must be a multiple of 16'),
        ({'stacks': 0}, 'stacks must be at least 1, got 0'),
        ({'channels': ()}, 'channels must be numbers from 2 on'),
        ({'blocks': (1, 0)}, r'blocks must be 1 to 3 numbers from 1 on, got \(1, 0\)'),
        ({'blocks': (1, 1, 1, 1)}, 'blocks must be 1 to 3 numbers'),
        ({'blocks': ()}, 'blocks must be 1 to 3 numbers'),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        HourglassOptions(**(TINY | change))


def test_crops_of_a_wrong_size_are_refused():
    network = StackedHourglass(HourglassOptions(**TINY))
    with pytest.raises(ValueError, match=r'\(N, 3, 64, 64\), got \(1, 3, 64, 32\)'):
        network(torch.rand(1, 3, 64, 32))
