"""Which of the measured heads is which of the known ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import linalg, rotations

Array = NDArray[np.float64]

# What a prediction is trusted to at best, for heads do jerk and fits do slip.
_FLOOR_M = 0.05
_FLOOR_RAD = 0.35
# How many unknown heads one expects in a cubic metre of a new image.
_NEW_PER_M3 = 0.02


def associate(
    T_known: Array,
    covariance_known: Array,
    T_measured: Array,
    covariance: Array,
    max_jump_m: float,
) -> dict[int, int]:
    """The most likely pairs of measured and known heads, all of them considered together.

    A pair is as likely as the measured pose under the predicted one, N(y; 0, S); a head without a
    partner is as likely as a new one. The sum of the logarithms is maximal over all assignments
    (Kuhn-Munkres). The determinant of S counts for the position: a head lost for a while could
    be anywhere, and must not outbid one whose place is known. It does not count for the rotation,
    because new heads could face anywhere too.

    Args:
        T_known: (M, 4, 4) predicted poses.
        covariance_known: (M, 6, 6).
        T_measured: (N, M, 4, 4) measured poses, were they those of the M persons.
        covariance: (N, 6, 6).
        max_jump_m: Further from its prediction, across the line of sight, it is somebody else.

    Returns:
        Row of each recognised measured head -> row of the known one.
    """
    count, known = T_measured.shape[:2]
    if count == 0 or known == 0:
        return {}
    y = rotations.difference(np.broadcast_to(T_known, T_measured.shape), T_measured)
    floor = np.repeat([_FLOOR_M, _FLOOR_RAD], 3) ** 2
    S = covariance[:, None] + covariance_known + np.diag(floor)
    distance_sq = (y * linalg.solve(S, y[..., None])[..., 0]).sum(-1)
    log_volume = np.linalg.slogdet(2 * np.pi * S[..., :3, :3])[1]
    cost = distance_sq + log_volume + 2 * np.log(_NEW_PER_M3)

    ray = T_known[:, :3, 3] / np.linalg.norm(T_known[:, :3, 3], axis=-1, keepdims=True)
    along = (y[..., :3] * ray).sum(-1, keepdims=True)
    jump = np.linalg.norm(y[..., :3] - along * ray, axis=-1)
    # Nothing: what a pair costs that is no better than a new head and a lost one.
    cost = np.where(jump <= max_jump_m, cost, 0).clip(max=0)
    rows, columns = _assignment(cost)
    return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if cost[r, c] < 0}


def _assignment(cost: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if cost.shape == (1, 1):
        return np.zeros(1, np.intp), np.zeros(1, np.intp)
    # Takes a third of a second to import, which a single face need not wait for.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    return rows, columns
