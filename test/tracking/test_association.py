# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of measured and known heads."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from tracking.people import NOISE, pose

from face_pose_ros import _core

SURE = np.diag(np.r_[[0.01] * 3, [0.1] * 3]) ** 2
LOST = np.diag(np.r_[[0.4] * 3, [1.5] * 3]) ** 2


def pairs(known, measured, covariance_known=SURE, gate_m=0.5):
    known, measured = np.array(known).reshape(-1, 4, 4), np.array(measured).reshape(-1, 4, 4)
    return _core.associate(
        known,
        np.ascontiguousarray(np.broadcast_to(covariance_known, (len(known), 6, 6))),
        np.zeros((len(known), 1)),
        measured,
        np.tile(NOISE, (len(measured), 1, 1)),
        np.zeros((len(measured), 1)),
        np.zeros((len(measured), 6, 1)),
        gate_m,
    )


def test_nobody():
    assert pairs([], []) == pairs([pose(0)], []) == pairs([], [pose(0)]) == {}


def test_order_does_not_matter(rng):
    known = [pose(x) for x in (-0.6, -0.3, 0, 0.3, 0.6)]
    order = rng.permutation(5)
    assert pairs(known, [known[i] for i in order]) == {i: int(j) for i, j in enumerate(order)}


def test_the_sum_decides_not_the_nearest_pair():
    # Everybody has moved right; greedily the first known head would win the second one's place.
    known, measured = [pose(0), pose(0.15)], [pose(0.13), pose(0.28)]
    assert pairs(known, measured) == {0: 0, 1: 1}
    # Here too, and the other one would be left alone.
    assert pairs(known, [pose(-0.15), pose(0.02)]) == {0: 0, 1: 1}


def test_the_optimum_is_that_of_all_assignments(rng):
    """Against every permutation, heads without a partner included."""
    for _ in range(30):
        known = [pose(*rng.normal(0, 0.12, 2), 1 + rng.normal(0, 0.1)) for _ in range(4)]
        measured = [pose(*rng.normal(0, 0.12, 2), 1 + rng.normal(0, 0.1)) for _ in range(3)]
        single = {
            (r, c): _likelihood(known[c], m) for (r, m) in enumerate(measured) for c in range(4)
        }
        best = max(
            itertools.product([None, 0, 1, 2, 3], repeat=3),
            key=lambda columns: _total(single, columns),
        )
        found = pairs(known, measured)
        assert found == {r: c for r, c in enumerate(best) if c is not None}


@pytest.mark.parametrize('shape', [(1, 1), (1, 4), (5, 2), (7, 7), (3, 9)])
@pytest.mark.parametrize('ties', [False, True])
def test_the_assignment_is_as_cheap_as_scipys(rng, shape, ties):
    for _ in range(50):
        cost = -rng.exponential(3, shape) * (rng.random(shape) < 0.6)
        cost = cost.round() if ties else cost
        columns = _core.assign(cost)
        given = columns >= 0
        assert given.sum() == len(set(columns[given])) == min(shape)
        assert cost[given, columns[given]].sum() == pytest.approx(
            cost[linear_sum_assignment(cost)].sum(), abs=1e-9
        )


def _likelihood(known, measured):
    """Log of the pair's likelihood over that of a new head; the rotations here are all alike."""
    S = SURE[:3, :3] + NOISE[:3, :3] + 0.05**2 * np.eye(3)
    y = measured[:3, 3] - known[:3, 3]
    density = np.exp(-0.5 * y @ np.linalg.solve(S, y)) / np.sqrt(np.linalg.det(2 * np.pi * S))
    return np.log(density / 0.02)


def _total(single, columns):
    used = [c for c in columns if c is not None]
    if len(set(used)) < len(used):
        return -np.inf
    return sum(single[r, c] for r, c in enumerate(columns) if c is not None)


def test_who_is_lost_does_not_outbid_who_is_known():
    """Both could have made the measurement: one stands there, the other could be anywhere."""
    known = [pose(0.1, z=1.6), pose(0)]
    assert pairs(known, [pose(0.05)], np.array([LOST, SURE])) == {0: 1}


def test_depth_tells_two_heads_on_one_ray_apart():
    assert pairs([pose(0, 0, 1), pose(0, 0, 1.8)], [pose(0, 0, 1.75)]) == {0: 1}


@pytest.mark.parametrize('y', [0.3, -0.3])
def test_too_far_across_the_line_of_sight_is_somebody_else(y):
    assert pairs([pose(0, 0)], [pose(0, y)], LOST) == {0: 0}
    assert pairs([pose(0, 0)], [pose(0, y)], LOST, gate_m=0.25) == {}
    # Along it the distance is known less well.
    assert pairs([pose(0, 0)], [pose(0, 0, 1.3)], LOST, gate_m=0.25) == {0: 0}


def test_a_jump_beyond_what_the_prediction_allows_is_somebody_else():
    assert pairs([pose(0)], [pose(0.1)]) == {0: 0}
    assert pairs([pose(0)], [pose(0.4)]) == {}


def test_a_fit_that_has_turned_over_is_not_the_same_head():
    assert pairs([pose(0)], [pose(0, turn=(0, 0.6, 0))]) == {0: 0}
    assert pairs([pose(0)], [pose(0, turn=(0, 0, 3))]) == {}


def test_opposite_rotations_are_no_trouble():
    turned = pose(0, turn=(np.pi, 0, 0))
    assert pairs([pose(0), turned], [turned, pose(0)]) == {0: 1, 1: 0}


def test_a_pose_that_is_no_number_is_nobodys():
    assert pairs([pose(0), pose(0.3)], [pose(np.nan), pose(0.3)]) == {1: 1}
