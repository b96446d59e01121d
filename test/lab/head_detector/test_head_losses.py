# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The losses of the head detector vanish at the truth, and each error has its term."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.head_detector.heads import Heads
from face_pose_lab.head_detector.losses import LossOptions, decoded, losses, normalised_errors
from face_pose_lab.head_detector.targets import Targets, joined, targets_of_image
from face_pose_lab.torch_geometry import so3
from lab.head_detector.material import one_head

from face_pose_ros.faces.head_cells import (
    MAX_LOG_SIGMA,
    NUMBERS,
    SIGMA,
    STRIDES,
    cell_centres,
    cells_of_poses,
)
from face_pose_ros.faces.head_uncertainty import pose_of_normalised
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera

SIDE = 128
XYZ = torch.tensor([[0.0, 0, 0], [-0.06, 0.05, 0.03], [-0.02, -0.03, -0.09]])
OPTIONS = LossOptions()


@pytest.fixture
def targets() -> Targets:
    """Three heads in two images."""
    both = one_head((40.3, 61.2), 30, turn_deg=35).join(one_head((90, 30), 70, turn_deg=-80))
    images = [both, one_head((61, 70), 180, turn_deg=10)]
    return joined([targets_of_image(heads, SIDE, SIDE) for heads in images])


def true_outputs(targets: Targets) -> list[torch.Tensor]:
    """Outputs of a network that knows."""
    count = len(targets.score)
    strides = np.concatenate([np.full((SIDE // s) ** 2, float(s)) for s in STRIDES])
    centres = np.concatenate([cell_centres(SIDE // s, SIDE // s, s) for s in STRIDES])
    x = torch.zeros(count, len(strides), NUMBERS)
    x[..., 0] = torch.where(targets.score == 1, 8.0, -8.0)
    x[..., 4:10] = torch.tensor([0.0, 0, -1, 1, 0, 0])
    at, cell = (targets.image, targets.cell), targets.cell.numpy()
    stride = torch.from_numpy(strides[cell]).float()
    offset = targets.uv - torch.from_numpy(centres[cell]).float()
    columns = targets.R_box_head[..., :2].mT.flatten(1)
    log_size = (targets.log_size - stride.log())[:, None]
    x[(*at, slice(1, 10))] = torch.cat([offset / stride[:, None], log_size, columns], -1)
    parts = x.mT.split([(SIDE // s) ** 2 for s in STRIDES], -1)
    return [p.unflatten(-1, (SIDE // s, SIDE // s)) for p, s in zip(parts, STRIDES, strict=True)]


def changed(outputs, channel: int, by: float) -> list[torch.Tensor]:
    outputs = [output.clone() for output in outputs]
    for output in outputs:
        output[:, channel] += by
    return outputs


def test_the_truth_is_decoded_and_costs_nothing(targets):
    outputs = true_outputs(targets)
    cells = decoded(outputs)
    at = targets.image, targets.cell
    torch.testing.assert_close(cells.uv[at], targets.uv)
    torch.testing.assert_close(cells.log_size[at], targets.log_size)
    torch.testing.assert_close(so3.from_columns(cells.columns[at]), targets.R_box_head)
    assert cells.sigma.unique().tolist() == pytest.approx([SIGMA])
    terms = losses(outputs, targets, XYZ, OPTIONS)
    assert terms['score'] < 0.01
    assert terms['pose'] == pytest.approx(0.01, abs=1e-4)  # the root of the rotation is smoothed
    assert terms['points'] < 1e-4
    assert terms['likelihood'] == pytest.approx(OPTIONS.likelihood * 6 * np.log(SIGMA), rel=1e-3)


@pytest.mark.parametrize(
    ('channel', 'by', 'worse'),
    [
        (0, -9.0, {'score'}),
        (1, 0.3, {'pose', 'points', 'likelihood'}),
        (3, 0.2, {'pose', 'points', 'likelihood'}),
        (5, 0.8, {'pose', 'points', 'likelihood'}),
        (12, 1.0, {'likelihood'}),
        (12, -1.0, set()),
    ],
)
def test_every_error_has_its_terms(targets, channel, by, worse):
    outputs = true_outputs(targets)
    least = losses(outputs, targets, XYZ, OPTIONS)
    terms = losses(changed(outputs, channel, by), targets, XYZ, OPTIONS)
    assert {name for name in terms if terms[name] > least[name] + 1e-4} == worse


def test_without_a_pose_only_the_place_counts(targets):
    unposed = replace(targets, posed=torch.zeros_like(targets.posed))
    outputs = true_outputs(targets)
    least = losses(outputs, unposed, XYZ, OPTIONS)
    turned = changed(changed(outputs, 5, 0.8), 3, 0.2)
    for name, value in losses(turned, unposed, XYZ, OPTIONS).items():
        assert value == least[name]
    assert losses(changed(outputs, 2, 0.3), unposed, XYZ, OPTIONS)['pose'] > least['pose'] + 0.01


def test_the_likelihood_trains_standard_deviations_alone(targets):
    outputs = [o.requires_grad_() for o in changed(true_outputs(targets), 1, 0.2)]
    losses(outputs, targets, XYZ, OPTIONS)['likelihood'].backward()
    for output in outputs:
        assert output.grad[:, :10].abs().max() == 0
    assert sum(output.grad[:, 10:].abs().sum() for output in outputs) > 0


def test_the_likelihood_is_best_at_the_errors_own_size(targets):
    outputs = true_outputs(targets)
    shift = 0.4 * 30 / 8 * 0.25  # a tenth of the smallest head's size, in cells
    only = replace(targets, posed=targets.posed & (targets.log_size < np.log(31)))
    outputs = changed(outputs, 1, shift)

    def cost(sigma: float) -> float:
        same = outputs
        for channel in (10, 11):  # the head is upright, so across is along x
            same = changed(same, channel, np.log(sigma / SIGMA))
        return float(losses(same, only, XYZ, OPTIONS)['likelihood'])

    costs = {sigma: cost(sigma) for sigma in (0.02, 0.05, 0.07, 0.1, 0.2)}
    # Of two errors, of which one is 0.1, with one sigma: 0.1 over the root of two.
    assert min(costs, key=costs.__getitem__) == 0.07


def test_sigmas_are_bounded(targets):
    cells = decoded(changed(true_outputs(targets), 11, 50.0))
    assert cells.sigma.max() == pytest.approx(SIGMA * np.exp(MAX_LOG_SIGMA))


def test_ignored_cells_cost_nothing(targets):
    outputs = changed(true_outputs(targets), 0, 9.0)  # heads everywhere
    everywhere = losses(outputs, targets, XYZ, OPTIONS)['score']
    ignored = replace(targets, ignored=torch.ones_like(targets.ignored))
    assert losses(outputs, ignored, XYZ, OPTIONS)['score'] < 1e-3 * everywhere
    missed = changed(outputs, 0, -20.0)  # but heads count everywhere
    assert losses(missed, ignored, XYZ, OPTIONS)['score'] > 1


def test_a_batch_may_have_no_heads():
    targets = joined([targets_of_image(Heads.none(), SIDE, SIDE)])
    outputs = [torch.zeros(1, NUMBERS, SIDE // s, SIDE // s, requires_grad=True) for s in STRIDES]
    terms = losses(outputs, targets, XYZ, OPTIONS)
    torch.stack(list(terms.values())).sum().backward()
    assert terms['pose'] == terms['points'] == terms['likelihood'] == 0
    assert all(output.grad.isfinite().all() for output in outputs)
    assert outputs[0].grad[:, 0].abs().min() > 0


@pytest.mark.parametrize('varied', [(0, 0, 1, 1, 1, 1), (1, 1, 0, 0, 0, 0)])
def test_normalised_errors_are_those_of_the_runtime(rng, varied):
    camera = Camera.from_K([[300, 0, 160], [0, 300, 120], [0, 0, 1]], 320, 240)
    T = np.tile(np.eye(4), (5, 1, 1))
    T[:, :3, :3] = rotations.exp(rng.uniform(-1.5, 1.5, (5, 3)))
    T[:, :3, 3] = rng.uniform((-0.3, -0.2, 0.8), (0.3, 0.2, 1.2), (5, 3))
    e = 0.02 * rng.normal(size=(5, 6)) * varied
    delta = np.einsum('nij,nj->ni', pose_of_normalised(T), e)
    truth, _ = cells_of_poses(rotations.moved(T, delta), camera)
    said, _ = cells_of_poses(T, camera)

    def tensor(x) -> torch.Tensor:
        return torch.from_numpy(np.asarray(x)).float()

    targets = Targets(
        *4 * [torch.zeros(0)],
        uv=tensor(truth.uv),
        log_size=tensor(truth.log_size),
        R_box_head=tensor(rotations.from_columns(truth.columns)),
        posed=torch.ones(5, dtype=torch.bool),
    )
    R = tensor(rotations.from_columns(said.columns))
    found = normalised_errors(tensor(said.uv), tensor(said.log_size), R, targets)
    # The camera that is turned to the centre turns a little where that is wrong across the ray.
    compared = slice(0, 2) if varied[0] else slice(0, 6)
    np.testing.assert_allclose(found[:, compared], e[:, compared], atol=1.5e-3)
