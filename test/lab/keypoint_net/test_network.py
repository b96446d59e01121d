# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoint network: its shape, its fused form, its mirror image, its losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.keypoint_net.decode import NetworkOutput, decode, unmirrored
from face_pose_lab.keypoint_net.losses import (
    Batch,
    LossOptions,
    distances,
    losses,
    negative_log_likelihood,
    rotation_distance,
)
from face_pose_lab.torch_geometry import so3
from torch import Tensor, nn

from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.network_output import INPUT_PX, KEYPOINTS
from face_pose_ros.networks.keypoint_network import KeypointNetwork, fused

MIRROR = torch.from_numpy(semantic.MIRROR)


def lively_network() -> KeypointNetwork:
    """With statistics and scales that fusing can get wrong."""
    torch.manual_seed(3)
    network = KeypointNetwork()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2.0)
            module.weight.data.uniform_(0.4, 1.6)
            module.bias.data.normal_(0, 0.2)
    network.last.weight.data.normal_(0, 0.1)
    return network.eval()


def numbers(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 5 * KEYPOINTS + 7, generator=generator)


def test_keypoints_are_the_semantic_ones() -> None:
    assert len(semantic.NAMES) == KEYPOINTS


def test_at_most_100_million_multiplications() -> None:
    network, total = lively_network(), 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    for module in network.modules():
        module.register_forward_hook(count)
    network(torch.zeros(1, 3, INPUT_PX, INPUT_PX))
    assert 30e6 < total <= 100e6


def test_fused_is_the_same_network() -> None:
    network = lively_network()
    crops = torch.rand(4, 3, INPUT_PX, INPUT_PX, generator=torch.Generator().manual_seed(1))
    folded = fused(network)
    assert not any(
        isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in folded.modules()
    )
    with torch.no_grad():
        expected = network(crops)
        assert expected.std() > 0.1
        torch.testing.assert_close(folded(crops), expected, atol=1e-5, rtol=1e-5)


def test_covariance_is_positive_and_in_pixels() -> None:
    output = decode(numbers())
    cov = output.cholesky @ output.cholesky.mT
    assert (torch.linalg.eigvalsh(cov) > 0).all()
    zero = decode(torch.zeros(1, 5 * KEYPOINTS + 7))
    torch.testing.assert_close(zero.cholesky[0, 0], 2 * torch.eye(2))
    torch.testing.assert_close(zero.uv[0, 0], torch.full((2,), 63.5))


def test_mirrored_twice_is_the_same() -> None:
    x = numbers()
    torch.testing.assert_close(unmirrored(unmirrored(x, MIRROR), MIRROR), x)


def test_mirrored_keypoints_covariances_and_rotations() -> None:
    x = numbers()
    output, other = decode(x), decode(unmirrored(x, MIRROR))
    expected = output.uv[:, MIRROR] * torch.tensor([-1.0, 1.0])
    expected = expected + torch.tensor([INPUT_PX - 1.0, 0.0])
    torch.testing.assert_close(other.uv, expected)
    flip = torch.diag(torch.tensor([-1.0, 1.0]))
    cov, cov_other = (s.cholesky @ s.cholesky.mT for s in (output, other))
    torch.testing.assert_close(cov_other, flip @ cov[:, MIRROR] @ flip)
    R, R_other = so3.from_columns(output.columns), so3.from_columns(other.columns)
    camera, head = torch.diag(torch.tensor([-1.0, 1, 1])), torch.diag(torch.tensor([1.0, -1, 1]))
    torch.testing.assert_close(R_other, camera @ R @ head)
    torch.testing.assert_close(other.presence_logit, output.presence_logit)


def true_batch(count: int = 4) -> tuple[Tensor, Batch]:
    """Numbers, and the heads that they describe exactly; the last crop is empty."""
    x = numbers(count)
    output = decode(x)
    return x, Batch(
        pictures=torch.zeros(count, 3, INPUT_PX, INPUT_PX, dtype=torch.uint8),
        uv=output.uv,
        weight=torch.ones(count, KEYPOINTS),
        R_crop_head=so3.from_columns(output.columns),
        is_photograph=torch.tensor([False, False, True, False]),
        present=torch.tensor([True, True, True, False]),
    )


@pytest.mark.parametrize('kind', ['rendered', 'photographs'])
@pytest.mark.parametrize('term', ['distance', 'rotation', 'likelihood'])
def test_the_truth_has_the_least_loss(kind: str, term: str) -> None:
    x, batch = true_batch()
    least = losses(x, batch, LossOptions())[f'{kind} {term}']
    for seed in range(4):
        off = 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        points = off[:, :-7].view(len(x), KEYPOINTS, 5)
        points[..., 2:] = 0.0  # at the same covariance
        assert losses(x + off, batch, LossOptions())[f'{kind} {term}'] > least


def test_likelihood_is_greatest_at_the_errors_own_size() -> None:
    generator = torch.Generator().manual_seed(2)
    error = 3.0 * torch.randn(4000, 1, 2, generator=generator)

    def cost(sigma: float) -> float:
        L = (sigma * torch.eye(2)).expand(4000, 1, 2, 2)
        output = NetworkOutput(torch.zeros(4000, 1, 2), L, torch.zeros(4000), torch.zeros(4000, 6))
        return float(negative_log_likelihood(output, error).mean())

    # The robust kernel takes a part of the largest errors away: a little less than 3.
    costs = {sigma: cost(sigma) for sigma in (2.0, 2.4, 2.8, 3.4, 4.0)}
    assert min(costs, key=costs.__getitem__) == 2.8


def test_likelihood_depends_on_the_direction_of_errors() -> None:
    L = torch.tensor([[1.0, 0.0], [1.5, 0.5]]).expand(1, 1, 2, 2)
    output = NetworkOutput(torch.zeros(1, 1, 2), L, torch.zeros(1), torch.zeros(1, 6))
    along = torch.tensor([[[1.0, 1.5]]])
    across = torch.tensor([[[1.5, -1.0]]])
    assert negative_log_likelihood(output, along) < negative_log_likelihood(output, across)


def test_rotation_distance_is_that_of_the_angle() -> None:
    angle = 0.3
    R = so3.exp(torch.tensor([[0.0, angle, 0.0]]))
    eye = torch.tensor([[1.0, 0, 0, 0, 1, 0]])
    output = NetworkOutput(torch.zeros(1, 1, 2), torch.eye(2)[None, None], torch.zeros(1), eye)
    expected = 2 * 2**0.5 * np.sin(angle / 2)
    assert float(rotation_distance(output, R)) == pytest.approx(expected, rel=1e-3)


def test_empty_crops_count_for_presence_alone() -> None:
    x, batch = true_batch()
    moved = replace(batch, uv=batch.uv + torch.tensor([0.0, 0, 0, 50]).view(-1, 1, 1))
    before, after = losses(x, batch, LossOptions()), losses(x, moved, LossOptions())
    assert all(torch.equal(before[name], after[name]) for name in before)
    shown = losses(x, replace(batch, present=torch.ones(4, dtype=torch.bool)), LossOptions())
    assert not torch.equal(shown['presence'], before['presence'])


def test_the_worst_tenth_of_the_photographs_is_dropped() -> None:
    output = decode(numbers(20))
    batch = Batch(
        torch.zeros(20, 3, 8, 8, dtype=torch.uint8),
        output.uv.clone(),
        torch.ones(20, KEYPOINTS),
        so3.from_columns(output.columns),
        torch.ones(20, dtype=torch.bool),
        torch.ones(20, dtype=torch.bool),
    )
    batch.uv[:2] += 40
    least = float(distances(output, output.uv).mean())
    found = losses(numbers(20), batch, LossOptions())['photographs distance']
    assert float(found) == pytest.approx(LossOptions().distance * least, rel=1e-4)
    batch.uv[2] += 40
    assert losses(numbers(20), batch, LossOptions())['photographs distance'] > 2 * found


def test_gradients_reach_every_weight() -> None:
    network = lively_network().train()
    _, batch = true_batch()
    terms = losses(
        network(batch.pictures.float() + torch.rand(4, 3, 128, 128)), batch, LossOptions()
    )
    torch.stack(list(terms.values())).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
