# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heatmaps -> keypoints: exact, unbiased, and as uncertain as they say."""

import pytest
import torch
from face_pose_lab.torch_keypoints.heatmaps import (
    TARGET_SIGMA,
    decode_heatmaps,
    render_heatmaps,
    to_cells,
    to_pixels,
)

HEIGHT, WIDTH = 19, 26  # cells, asymmetric


def random_uv(count: int, stride: int, margin: float, generator: torch.Generator) -> torch.Tensor:
    """(count, 2) px of the crop, at least `margin` cells inside the heatmap."""
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    uniform = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return to_pixels(margin - 0.5 + uniform * (size - 2 * margin), stride)


@pytest.mark.parametrize('stride', [1, 4, 7])
def test_pixels_and_cells_share_their_outer_border(stride):
    corners = torch.tensor([[-0.5, -0.5], [WIDTH * stride - 0.5, HEIGHT * stride - 0.5]])
    assert torch.equal(
        to_cells(corners, stride), torch.tensor([[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5]])
    )


@pytest.mark.parametrize('stride', [1, 4, 8])
@pytest.mark.parametrize('margin', [0.0, 3.0])
def test_a_rendered_gaussian_is_found_exactly_up_to_the_border(stride, margin, generator):
    uv = random_uv(500, stride, margin, generator)
    points = decode_heatmaps(render_heatmaps(uv, HEIGHT, WIDTH, stride), stride)
    assert (points.uv - uv).abs().max() < 1e-4 * stride
    assert (points.confidence - 1).abs().max() < 1e-4


def test_in_single_precision_it_is_a_thousandth_of_a_cell(generator):
    uv = random_uv(500, 4, 0.0, generator).float()
    points = decode_heatmaps(render_heatmaps(uv, HEIGHT, WIDTH, 4), 4)
    assert (points.uv - uv).abs().max() < 4e-3


def test_noise_moves_the_keypoint_to_no_side(generator):
    uv = random_uv(20000, 4, 3.0, generator)
    heatmaps = render_heatmaps(uv, HEIGHT, WIDTH, 4)
    noise = 0.03 * torch.randn(heatmaps.shape, generator=generator, dtype=torch.float64)
    error = (decode_heatmaps(heatmaps + noise, 4).uv - uv) / 4
    assert error.square().mean().sqrt() < 0.03  # cells
    assert error.mean(0).abs().max() < 3 * 0.03 / 20000**0.5
    # Nor towards the middle of a cell.
    to_middle = to_cells(uv, 4) - to_cells(uv, 4).round()
    assert (error * to_middle).mean().abs() < 0.02 * to_middle.square().mean()


@pytest.mark.parametrize('sigmas', [(0.5, 0.5), (1.0, 0.4), (0.3, 1.5)])
def test_the_covariance_of_the_best_possible_heatmap_is_that_of_the_place(sigmas, generator):
    """A network with the least squared error gives the target, blurred by what it can't know."""
    stride, count = 4, 4000
    angle = torch.tensor(0.6, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    L = turn @ torch.diag(torch.tensor(sigmas, dtype=torch.float64))
    P = L @ L.mT
    place = torch.tensor([12.3, 8.8], dtype=torch.float64)
    rows, columns = torch.meshgrid(
        torch.arange(HEIGHT, dtype=torch.float64), torch.arange(WIDTH, dtype=torch.float64),
        indexing='ij',
    )  # fmt: skip
    C = P + TARGET_SIGMA**2 * torch.eye(2, dtype=torch.float64)
    d = torch.stack([columns, rows], -1) - place
    mean = TARGET_SIGMA**2 / torch.linalg.det(C).sqrt()
    heatmap = mean * (-0.5 * (d[..., None, :] @ torch.linalg.solve(C, d[..., None]))).exp()
    points = decode_heatmaps(heatmap[..., 0, 0], stride)
    truth = place + torch.randn(count, 2, generator=generator, dtype=torch.float64) @ L.mT
    error = to_pixels(truth, stride) - points.uv
    nees = (error[:, None] @ torch.linalg.solve(points.cov_uv, error[..., None])).mean() / 2
    assert 0.93 < nees < 1.07


def test_two_possible_places_make_the_keypoint_uncertain():
    uv = torch.tensor([[40.0, 30.0], [75.0, 30.0]], dtype=torch.float64)
    both = render_heatmaps(uv, HEIGHT, WIDTH, 4).mean(0)
    sure = render_heatmaps(uv[0], HEIGHT, WIDTH, 4)
    assert decode_heatmaps(both, 4).confidence == pytest.approx(0.5, abs=1e-3)
    sigma = [decode_heatmaps(h, 4).cov_uv.diagonal().sum().sqrt() for h in (both, sure)]
    assert sigma[0] > 4 > 1 > sigma[1]


@pytest.mark.parametrize('height', [0.0, -1.0, 1e-6])
def test_an_empty_heatmap_is_no_measurement_but_no_error(height):
    points = decode_heatmaps(torch.full((2, HEIGHT, WIDTH), height), 4)
    assert points.uv.isfinite().all()
    assert (points.confidence <= 1e-3).all()
    assert (points.cov_uv.diagonal(dim1=-2, dim2=-1) > 8**2).all()


def test_the_gradient_is_that_of_finite_differences(generator):
    uv = random_uv(6, 4, 2.0, generator)
    heatmaps = render_heatmaps(uv, HEIGHT, WIDTH, 4) * 0.7
    heatmaps += 0.02 * torch.rand(heatmaps.shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 7, generator=generator, dtype=torch.float64)

    def reading(h):
        points = decode_heatmaps(h, 4)
        parts = (points.uv, points.cov_uv.flatten(1), points.confidence[:, None])
        return (torch.cat(parts, 1) * weight).sum()

    h = heatmaps.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reading(h), h)
    direction = torch.randn(h.shape, generator=generator, dtype=torch.float64) * (gradient != 0)
    step = 1e-6
    numeric = (reading(heatmaps + step * direction) - reading(heatmaps - step * direction)) / (
        2 * step
    )
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-4)
