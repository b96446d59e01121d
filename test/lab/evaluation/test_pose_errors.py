"""Errors of poses that are wrong by a known amount."""

import numpy as np
import pytest
import torch
from face_pose_lab.evaluation.pose_errors import HEADING, pose_errors, table_row
from face_pose_lab.torch_geometry import se3, so3

RAY = torch.tensor([0.36, -0.48, 0.8]).double()
ACROSS = torch.tensor([0.8, 0.6, 0]).double()  # at right angles to it


def truth(distance=2.0):
    R = so3.exp(torch.tensor([0.3, -1.2, 0.7]).double())
    return se3.from_rt(R, distance * RAY)[None]


def test_errors_along_and_across_the_ray():
    true = truth()
    estimate = true.clone()
    estimate[:, :3, 3] += 0.004 * ACROSS - 0.05 * RAY
    errors = pose_errors(estimate, torch.eye(6).double()[None], true)
    assert errors.lateral_mm_per_m[0] == pytest.approx(2.0)
    assert errors.depth_percent[0] == pytest.approx(2.5)  # seen 5 cm too near at 2 m
    assert errors.rotation_deg[0] == pytest.approx(0, abs=1e-6)


def test_stated_sigmas_are_split_like_the_errors():
    covariance = torch.zeros(6, 6).double()
    covariance[:3, :3] = 0.06**2 * torch.outer(RAY, RAY) + 0.006**2 * torch.outer(ACROSS, ACROSS)
    covariance[3:, 3:] = torch.diag(torch.tensor([1.0, 4.0, 4.0]).double()).deg2rad().deg2rad()
    covariance += 1e-14 * torch.eye(6)
    errors = pose_errors(truth(), covariance[None], truth())
    assert errors.depth_sigma_percent[0] == pytest.approx(3)
    assert errors.lateral_sigma_mm_per_m[0] == pytest.approx(3, rel=1e-4)
    assert errors.rotation_sigma_deg[0] == pytest.approx(3)


def test_consistent_poses_have_the_nees_of_their_freedom(generator):
    A = torch.randn(6, 6, generator=generator).double()
    scale = torch.tensor([0.01, 0.01, 0.05, 0.04, 0.03, 0.02]).double()
    covariance = scale[:, None] * (A @ A.T + torch.eye(6)) * scale
    draws = torch.randn(4000, 6, generator=generator).double()
    draws = 0.3 * draws @ torch.linalg.cholesky(covariance).T
    estimate = truth()
    R = so3.exp(draws[:, 3:]) @ estimate[:, :3, :3]
    true = se3.from_rt(R, estimate[:, :3, 3] + draws[:, :3])
    errors = pose_errors(estimate.expand_as(true), 0.09 * covariance.expand(4000, 6, 6), true)
    assert errors.nees.mean() == pytest.approx(6, rel=0.05)


def test_a_row_counts_what_was_not_found():
    errors = pose_errors(truth(), 1e-4 * torch.eye(6).double()[None], truth())
    row = table_row('0-60', 4, errors[np.array([True])])
    assert row.split()[:3] == ['0-60', '4', '25.0']
    assert len(row.split()) == 14
    assert len(row) == len(HEADING.splitlines()[1])
    assert table_row('75-90', 3, errors[np.array([False])]).split() == ['75-90', '3', '0.0']
