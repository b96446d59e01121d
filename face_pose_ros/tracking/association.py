# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Associates measured heads with tracks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.jit import compiled, inner
from face_pose_ros.geometry.linalg import eliminate
from face_pose_ros.geometry.rotations import log_kernel, moved_kernel

Array = NDArray[np.float64]

# Least standard deviations of a prediction: heads jerk, and fits have outliers.
_FLOOR_M = 0.05
_FLOOR_RAD = 0.35
# Expected number of new heads per cubic metre and image.
_NEW_PER_M3 = 0.02


def associate(
    T_known: Array,
    covariance_known: Array,
    identity_known: Array,
    T_measured: Array,
    covariance: Array,
    identity: Array,
    pose_of_identity: Array,
    gate_m: float,
) -> dict[int, int]:
    """The most likely pairs of measured heads and tracks, in a joint assignment.

    The likelihood of a pair is that of the measured pose under the predicted one, N(y; 0, S); that
    of an unpaired head is the one of a new head. The sum of the logarithms is maximal over all
    assignments (Kuhn-Munkres). The determinant of S counts for the position: the uncertain
    prediction of a lost head must not win against a certain one. It does not count for the
    rotation, which is unknown for new heads too.

    Args:
        T_known: (M, 4, 4) predicted poses.
        covariance_known: (M, 6, 6).
        identity_known: (M, I) identity coefficients for which they hold.
        T_measured: (N, 4, 4) measured poses.
        covariance: (N, 6, 6).
        identity: (N, I) identity coefficients for which these hold.
        pose_of_identity: (N, 6, I) their derivatives: poses are compared for the known identity.
        gate_m: Largest distance from the prediction across the line of sight.

    Returns:
        Row of each associated measured head -> row of its track.
    """
    count, known = len(T_measured), len(T_known)
    if count == 0 or known == 0:
        return {}
    cost = np.empty((count, known))
    _costs(
        T_known,
        covariance_known,
        identity_known,
        T_measured,
        covariance,
        identity,
        pose_of_identity,
        gate_m,
        cost,
    )
    columns = _assignment(cost)
    return {r: int(c) for r, c in enumerate(columns) if c >= 0 and cost[r, c] < 0}


@compiled
def _assignment(cost):
    """Column of each row of (N, M) with the least sum; of N - M rows, if positive, it is -1.

    Shortest augmenting paths. (scipy's function for it takes 31 MB and a third of a second.)
    """
    if cost.shape[0] > cost.shape[1]:
        columns = np.full(cost.shape[0], -1)
        for column, row in enumerate(_assign_rows(cost.T.copy())):
            columns[row] = column
        return columns
    return _assign_rows(cost)


@inner
def _assign_rows(cost):
    """Column of each of N rows, N <= M."""
    rows, columns = cost.shape
    of_row, of_column = np.zeros(rows), np.zeros(columns + 1)  # dual variables
    row_of = np.full(columns + 1, -1)  # the last column is the start of a path
    before = np.empty(columns, np.int64)
    for first in range(rows):
        column, row_of[columns] = columns, first
        slack, reached = np.full(columns, np.inf), np.zeros(columns + 1, np.bool_)
        while row_of[column] >= 0:
            reached[column] = True
            row, nearest = row_of[column], -1
            for j in range(columns):
                if not reached[j]:
                    reduced = cost[row, j] - of_row[row] - of_column[j]
                    if reduced < slack[j]:
                        slack[j], before[j] = reduced, column
                    if nearest < 0 or slack[j] < slack[nearest]:
                        nearest = j
            step = slack[nearest]
            for j in range(columns + 1):
                if reached[j]:
                    of_row[row_of[j]] += step
                    of_column[j] -= step
                elif j < columns:
                    slack[j] -= step
            column = nearest
        while column != columns:
            row_of[column] = row_of[before[column]]
            column = before[column]
    assigned = np.empty(rows, np.int64)
    for j in range(columns):
        if row_of[j] >= 0:
            assigned[row_of[j]] = j
    return assigned


@compiled
def _costs(
    T_known,
    covariance_known,
    identity_known,
    T_measured,
    covariance,
    identity,
    pose_of_identity,
    gate_m,
    cost,
):
    """Cost of each pair (N, M); 0 if it is no better than a new head and a lost one."""
    turn, omega, ray = np.empty((3, 3)), np.empty(3), np.empty(3)
    delta, now = np.empty(6), np.empty((4, 4))
    y, whitened, S = np.empty((6, 1)), np.empty((6, 1)), np.empty((6, 6))
    for n in range(cost.shape[0]):
        for m in range(cost.shape[1]):
            before = T_known[m]
            for i in range(6):
                delta[i] = 0.0
                for a in range(identity.shape[1]):
                    change = identity_known[m, a] - identity[n, a]
                    delta[i] += pose_of_identity[n, i, a] * change
            moved_kernel(T_measured[n], delta, now)
            for i in range(3):
                y[i, 0], ray[i] = now[i, 3] - before[i, 3], before[i, 3]
                for j in range(3):
                    turn[i, j] = 0.0
                    for k in range(3):
                        turn[i, j] += now[i, k] * before[j, k]
            log_kernel(turn, omega)
            distance_sq, along, across_sq = 0.0, 0.0, 0.0
            norm = math.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
            for i in range(3):
                y[3 + i, 0] = omega[i]
                along += y[i, 0] * ray[i] / norm
            for i in range(3):
                across_sq += (y[i, 0] - along * ray[i] / norm) ** 2
            for i in range(6):
                whitened[i, 0] = y[i, 0]
                for j in range(6):
                    S[i, j] = covariance[n, i, j] + covariance_known[m, i, j]
                S[i, i] += (_FLOOR_M if i < 3 else _FLOOR_RAD) ** 2
            volume = (2 * math.pi) ** 3 * (
                S[0, 0] * (S[1, 1] * S[2, 2] - S[1, 2] * S[2, 1])
                + S[0, 1] * (S[1, 2] * S[2, 0] - S[1, 0] * S[2, 2])
                + S[0, 2] * (S[1, 0] * S[2, 1] - S[1, 1] * S[2, 0])
            )
            eliminate(S, whitened)
            for i in range(6):
                distance_sq += y[i, 0] * whitened[i, 0]
            pair = distance_sq + math.log(abs(volume)) + 2 * math.log(_NEW_PER_M3)
            is_near = math.sqrt(across_sq) <= gate_m
            cost[n, m] = min(pair, 0.0) if is_near else 0.0
