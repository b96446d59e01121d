# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Associates measured heads with tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core

Array = NDArray[np.float64]


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
    if len(T_measured) == 0 or len(T_known) == 0:
        return {}
    return _core.associate(
        T_known,
        covariance_known,
        identity_known,
        T_measured,
        covariance,
        identity,
        pose_of_identity,
        gate_m,
    )
