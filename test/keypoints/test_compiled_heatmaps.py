"""Reading heatmaps: compiled and in torch."""

import numpy as np
import torch

from face_pose_ros.keypoints import compiled_heatmaps
from face_pose_ros.keypoints.heatmaps import decode_heatmaps, render_heatmaps

SIDE, STRIDE = 16, 8


def assert_the_same(heatmaps):
    expected = decode_heatmaps(heatmaps.double(), STRIDE)
    uv, cov_uv, confidence = compiled_heatmaps.decode(heatmaps.float().numpy(), STRIDE)
    np.testing.assert_allclose(uv, expected.uv, atol=2e-3)
    np.testing.assert_allclose(cov_uv, expected.cov_uv, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(confidence, expected.confidence, atol=1e-4)


def test_gaussians_of_any_place_height_and_width(generator):
    """Also beyond the border, in noise, and of two places at once."""
    uv = 160 * torch.rand(6, 40, 2, generator=generator) - 16
    heatmaps = render_heatmaps(uv, SIDE, SIDE, STRIDE)
    assert_the_same(heatmaps)
    height = torch.rand(6, 40, 1, 1, generator=generator)
    assert_the_same(height * heatmaps)
    noise = 0.03 * torch.rand(heatmaps.shape, generator=generator)
    assert_the_same(heatmaps + noise)
    assert_the_same(0.6 * heatmaps + 0.3 * heatmaps.roll(1, 1))


def test_heatmaps_without_a_peak():
    flat = torch.full((1, 1, SIDE, SIDE), 0.2)
    ramp = torch.linspace(0.01, 1, SIDE).expand(1, 1, SIDE, SIDE)
    spike = torch.zeros(1, 1, SIDE, SIDE)
    spike[..., 5, 7] = 0.8
    for heatmaps in (flat, ramp, spike, torch.zeros_like(flat), -flat):
        assert_the_same(heatmaps)


def test_a_broken_heatmap_spoils_no_other():
    heatmaps = render_heatmaps(torch.tensor([[[40.0, 50.0], [60.0, 30.0]]]), SIDE, SIDE, STRIDE)
    heatmaps[0, 0] = torch.nan
    uv, _, confidence = compiled_heatmaps.decode(heatmaps.numpy(), STRIDE)
    np.testing.assert_allclose(uv[0, 1], [60, 30], atol=2e-3)
    assert not confidence[0, 0] > 0.01
