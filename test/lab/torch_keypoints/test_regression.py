# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of the regressor become keypoints, covariances and a rotation."""

import pytest
import torch
from face_pose_lab.hourglass.regressor import KeypointRegressor, of_mirrored
from face_pose_lab.torch_keypoints.heatmaps import decode_heatmaps, render_heatmaps
from face_pose_lab.torch_keypoints.regression import read_regression
from helpers.scene import R_CAM_FRONTAL

SIDE = 128


def test_zeros_are_a_head_that_looks_into_the_middle_of_the_crop():
    head = read_regression(torch.zeros(2, 5 * 7 + 6), SIDE)
    assert head.keypoints.uv.shape == (2, 7, 2)
    assert (head.keypoints.uv == 63.5).all()
    torch.testing.assert_close(head.keypoints.cov_uv[1, 3], 16.0 * torch.eye(2))
    torch.testing.assert_close(head.R_crop_head[0], R_CAM_FRONTAL.float())


def test_one_is_the_middle_of_the_pixel_behind_the_border():
    numbers = torch.zeros(1, 11)
    numbers[0, :2] = torch.tensor([1.0, -1.0])
    uv = read_regression(numbers, SIDE).keypoints.uv
    torch.testing.assert_close(uv[0, 0], torch.tensor([127.5, -0.5]))


def test_every_covariance_is_one(generator):
    numbers = 20 * torch.randn(50, 5 * 9 + 6, generator=generator)
    points = read_regression(numbers, SIDE).keypoints
    torch.testing.assert_close(points.cov_uv, points.cov_uv.mT)
    assert (torch.linalg.eigvalsh(points.cov_uv.double()) > 0).all()
    assert ((points.confidence >= 0) & (points.confidence <= 1)).all()


def test_a_confidence_is_the_peak_of_a_heatmap_that_is_as_unsure():
    """The mean of a target's Gaussian over places that are normally distributed."""
    generator = torch.Generator().manual_seed(1)
    numbers = torch.zeros(1, 11)
    numbers[0, 2:5] = torch.tensor([0.8, 0.2, 0.5])
    points = read_regression(numbers, SIDE).keypoints
    L = torch.linalg.cholesky(points.cov_uv[0, 0])
    places = 63.5 + torch.randn(20000, 2, generator=generator) @ L.mT
    heatmap = render_heatmaps(places, 16, 16, 8).mean(0)
    peak = decode_heatmaps(heatmap[None, None], 8).confidence
    assert float(points.confidence) == pytest.approx(float(peak), rel=0.03)


def test_the_regressor_sees_all_cells(generator):
    regressor = KeypointRegressor(channels=8, side=4, keypoints=3, hidden=16).eval()
    features = torch.rand(2, 8, 4, 4, generator=generator)
    heatmaps = torch.rand(2, 3, 4, 4, generator=generator)
    numbers = regressor(features, heatmaps)
    assert numbers.shape == (2, 21)
    for cell in range(16):
        moved = features.clone()
        moved[..., cell // 4, cell % 4] += 1
        assert (regressor(moved, heatmaps) - numbers).abs().amax() > 0


def test_keypoints_are_not_rounded_in_half_precision():
    regressor = KeypointRegressor(channels=8, side=4, keypoints=3, hidden=16).eval()
    with torch.autocast('cpu', torch.bfloat16):
        numbers = regressor(torch.rand(1, 8, 4, 4), torch.rand(1, 3, 4, 4))
    assert numbers.dtype == torch.float32


def test_untrained_it_says_the_mean_places_of_the_heatmaps(generator):
    regressor = KeypointRegressor(channels=8, side=16, keypoints=4, hidden=16).eval()
    torch.nn.init.zeros_(regressor.last.weight)
    uv = 30 + 60 * torch.rand(3, 4, 2, generator=generator)
    log_heatmaps = render_heatmaps(uv, 16, 16, 8).log().clamp_min(-40)
    numbers = regressor(torch.rand(3, 8, 16, 16, generator=generator), log_heatmaps)
    assert (read_regression(numbers, SIDE).keypoints.uv - uv).abs().max() < 0.01


def test_a_mirrored_head_is_read_mirrored(generator):
    mirror = torch.tensor([0, 2, 1])
    numbers = torch.randn(4, 5 * 3 + 6, generator=generator)
    head = read_regression(numbers, SIDE)
    other = read_regression(of_mirrored(numbers, mirror), SIDE)
    flip = torch.tensor([-1.0, 1.0])
    uv = 63.5 + flip * (head.keypoints.uv[:, mirror] - 63.5)
    torch.testing.assert_close(other.keypoints.uv, uv)
    cov_uv = flip[:, None] * head.keypoints.cov_uv[:, mirror] * flip
    torch.testing.assert_close(other.keypoints.cov_uv, cov_uv)
    camera, sides = torch.tensor([-1.0, 1, 1]), torch.tensor([1.0, -1, 1])
    torch.testing.assert_close(other.R_crop_head, camera[:, None] * head.R_crop_head * sides)
